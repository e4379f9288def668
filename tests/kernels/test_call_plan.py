"""The choice of how a call is run: a table of cases, on machines that are given by their caches."""

import json

import pytest
from helpers import usable

from lstmkernel.cli import main
from lstmkernel.workbench import shapes
from lstmkernel.workbench.shapes import parse

pytestmark = pytest.mark.skipif("c" not in {name.partition(":")[0] for name in usable()}, reason="C is not built")

#: A desktop: 512 KiB of L2 a core, 32 MiB of L3. A server: 2 MiB and 64 MiB.
DESKTOP, SERVER = (384 << 10, 24 << 20), (3 << 19, 48 << 20)


def plan(shape, threads, caches=DESKTOP, isa="generic", itemsize=4):
    from lstmkernel.backends.c.call_plan import Caches, call_plan

    return call_plan(shape[1:7], threads, isa, itemsize, Caches(*caches))


@pytest.mark.parametrize(
    ("shape", "threads", "way", "used"),
    [
        ("1,1,4,4", 64, "one thread", 1),  # threads come too late
        ("1,20000,1,8", 64, "one thread", 1),  # a long stream of a tiny layer: every step is a meeting
        ("1,512,1,16", 16, "one thread", 1),
        ("2,100,8,16,1,2", 16, "tasks", 2),  # two directions, and units too few to share
        ("1,512,512,512", 2, "teams", 2),
        ("1,512,512,512", 64, "teams", 64),
        ("1,512,512,512,2,2", 2, "tasks", 2),  # a direction each
        ("1,512,512,512,2,2", 16, "teams", 16),  # a team for each direction
        ("1,1,1024,1024,3", 16, "teams", 16),  # one step
        ("3200,1,45,40,2", 16, "tasks", 16),  # rows
        ("256,365,15,20", 16, "tasks", 16),
        ("6,50,15,4", 16, "one thread", 1),  # few rows of few units
        ("32,147,60,128,4,2", 16, "tasks", 16),  # a team would hand more around than it computes
        ("16,147,60,128,4,2", 16, "teams", 16),  # rows make only half as many tasks
    ],
)
def test_the_way_of_a_call(shape, threads, way, used):
    found = plan(parse(shape), threads)
    assert (found.way, found.threads) == (way, used), found


@pytest.mark.parametrize("shape", shapes.GRID, ids=lambda shape: shape.name)
@pytest.mark.parametrize("caches", [DESKTOP, SERVER], ids=["desktop", "server"])
def test_more_threads_are_never_predicted_to_take_longer(shape, caches):
    before = plan(shape, 1, caches)
    assert before.way == "one thread"
    assert before.seconds == before.alone_seconds
    for threads in (2, 3, 4, 8, 12, 16, 32, 64):
        found = plan(shape, threads, caches)
        assert found.seconds <= before.seconds * 1.0001, (threads, found, before)
        assert found.threads <= threads
        assert (found.threads == 1) == (found.way == "one thread")
        before = found


def test_units_are_never_shared_by_more_threads_than_there_are_blocks():
    from lstmkernel.backends.c.call_plan import instruction_sets, lib

    for index, isa in enumerate(instruction_sets()):
        if not lib.lk_isa_usable(index):
            continue
        lanes = lib.lk_lanes(lib.lk_find(index, 4))
        assert plan(parse(f"1,512,128,{8 * lanes}"), 64, isa=isa).threads <= 8


def test_many_rows_make_several_tasks_for_each_thread():
    """Their lengths may differ; equal shares of the rows would be unequal work."""
    assert plan(parse("256,365,15,20"), 2).rows == 64
    assert plan(parse("4000,30,8,32"), 2).rows == 256, "at most 8 for each thread"
    assert plan(parse("256,365,15,20"), 16).rows == 16, "at least one for each thread"
    assert plan(parse("3200,1,45,40,2"), 2).rows == 1600, "one step: rows have it, or not"


def test_layers_wait_for_each_other_only_where_tasks_are_few():
    """A chunk of many tasks takes as many steps as the cache holds outputs, so states are seldom copied."""
    assert plan(parse("2048,60,8,32,2"), 2).steps == 60
    assert plan(parse("2048,1000,8,32,2"), 2).steps == (1 << 20) // (128 * 32 * 4)
    assert plan(parse("1,512,40,40,8"), 2).steps == 43, "a twelfth"


def test_double_takes_longer_and_near_weights_less():
    shape = parse("1,100,640,640")
    assert plan(shape, 1, itemsize=8).seconds > plan(shape, 1).seconds
    assert plan(shape, 1, (64 << 20, 64 << 20)).seconds < plan(shape, 1, (0, 0)).seconds


def test_the_command(capsys):
    both = ["--shape", "2,5,3,4", "--shape", "1,1,200,200"]
    assert main(["threads", *both, "--threads", "2", "--seconds", "0", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["shape"], row["allowed"]) for row in rows] == [
        *(("2,5,3,4", 1), ("2,5,3,4", 2), ("1,1,200,200", 1), ("1,1,200,200", 2))
    ]
    assert all(row["predicted"] > 0 and row["measured"] > 0 for row in rows)
    assert main(["threads", "--shape", "1,1,4,4", "--threads", "1", "--seconds", "0"]) == 0
    assert "one thread" in capsys.readouterr().out


def test_the_command_refuses(capsys):
    with pytest.raises(SystemExit):
        main(["threads", "--shape", "1,2"])
    assert "expected B,T,I,H" in capsys.readouterr().err
