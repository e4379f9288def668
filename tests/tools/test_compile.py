"""LSTM.compile: the contest, the plans on disk, and errors on the way."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import assert_same_answer, compiler_is_missing, normal, run_python, usable
from lstmkernel.backends.c._kernels import ffi

import lstmkernel as lk
from lstmkernel import backends, plan
from lstmkernel.backends.c import specialised
from lstmkernel.backends.c.specialised import SPECIALISED
from lstmkernel.host import compile_c, cores, disk_cache
from lstmkernel.tuning import candidates, timing

ISAS = [name.removeprefix("c:") for name in usable(backends.ONE_ANSWER) if name.startswith("c:")]


pytestmark = [
    pytest.mark.skipif(bool(compiler_is_missing()), reason=compiler_is_missing() or "-"),
    pytest.mark.skipif(not ISAS, reason="no instruction set with one answer"),
]

OWN = f"c:{ISAS[0]}" if ISAS else ""
SPECIAL = OWN + SPECIALISED


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty cache, and two candidates: the model's own backend, and specialised C kernels."""
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(plan, "SECONDS", 0.01)
    monkeypatch.setattr(plan, "MOST_NOISE", np.inf)  # else a busy machine makes a plan again
    monkeypatch.setattr(candidates, "names", lambda own: [OWN, SPECIAL])
    disk_cache._say_once.cache_clear()
    forget_loaded()
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def code_of_small(tmp_path_factory):
    """A cache with the specialised kernels of ``small()``."""
    folder = tmp_path_factory.mktemp("small") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSTMKERNEL_CACHE_DIR", str(folder))
        forget_loaded()  # what another test has loaded would not be compiled into this folder
        specialised.get(ISAS[0], np.dtype("float32"), (2, 3, 0))
    return folder


@pytest.fixture
def cache(empty, code_of_small):
    """As ``empty``, but nothing has to be compiled for ``small()``."""
    shutil.copytree(code_of_small, empty)
    return empty


def forget_loaded():
    """As in a new process, which has nothing loaded."""
    specialised._found_or_compiled.cache_clear()


def small():
    return lk.LSTM(2, 3, seed=0, num_threads=1)


# ---------------------------------------------------------------- the contest


@pytest.mark.slow
def test_the_contest(kept, random):
    lstm = lk.LSTM(2, 20, num_threads=1, seed=0)
    fast = lstm.compile(batch_size=3, steps=11)
    made = fast.plan
    assert lstm.plan is None
    assert (made.batch_size, made.steps, made.threads, made.before) == (3, 11, 1, lstm.backend)
    names = [contender.name for contender in made.contenders]
    fused = usable(backends.ONE_ANSWER)
    assert set(names) == {*fused, *(f"{name} special" for name in fused)}
    for contender in made.contenders:
        assert contender.note == ""
        assert contender.same_bits
        assert 0 <= contender.error <= 1
    seconds = [contender.seconds for contender in made.contenders]
    assert seconds == sorted(seconds)
    assert made.winner in (names[0], lstm.backend)
    assert fast.backend == made.winner
    for T, B in [(11, 3), (1, 1), (4, 7)]:
        x = normal(random, (T, B, 2), "float32")
        assert_same_answer(fast(x), lstm(x))


def test_the_plan_in_words_and_as_json(cache):
    made = small().compile(2, 5).plan
    shown = str(made)
    assert shown.splitlines()[1] == f"batch 2, 5 steps, 1 thread, {made.cpu}"
    assert all(contender.name in shown for contender in made.contenders)
    assert "taken" in shown
    assert repr(made).startswith(f"Plan({made.winner!r}, chosen from {len(made.contenders)}, for LSTM(")
    fields = json.loads(json.dumps(made.to_dict()))
    assert fields["winner"] == made.winner
    assert len(fields["contenders"]) == 2


def test_batch_first_and_unknown_steps(cache):
    assert "steps unknown" in str(lk.LSTM(2, 3, batch_first=True, seed=0).compile(4).plan)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("steps", "timed"), [(None, "single steps of a stream"), (5, "chunks of 5 steps of a stream")])
def test_a_stream_is_timed(cache, random, monkeypatch, steps, timed, batch_first):
    took = {"step": [], "__call__": []}
    for name, seen in took.items():
        own = getattr(lk.Stream, name)

        def noted(stream, x, out=None, *, own=own, seen=seen):
            seen.append(x.shape)
            return own(stream, x, out)

        monkeypatch.setattr(lk.Stream, name, noted)
    lstm = lk.LSTM(2, 3, batch_first=batch_first, seed=0, num_threads=1)
    fast = lstm.compile(4, steps, stream=True)
    assert f"batch 4, {timed}, 1 thread" in str(fast.plan)
    assert [contender.note for contender in fast.plan.contenders] == ["", ""]
    assert all(contender.same_bits for contender in fast.plan.contenders)
    timed_shape = (4, 2) if steps is None else (4, 5, 2) if batch_first else (5, 4, 2)
    assert took["step" if steps is None else "__call__"].count(timed_shape) > 6
    assert not took["__call__" if steps is None else "step"]
    x = normal(random, (3, 3, 2), "float32")
    assert_same_answer(fast(x), lstm(x))
    assert lstm.compile(4, steps, stream=True).plan.remembered
    assert not lstm.compile(4, steps).plan.remembered


def test_streams_with_wrong_bits_do_not_win(cache, monkeypatch):
    right = candidates.build

    def spoiled(name, *network):
        backend, seconds = right(name, *network)

        def prepare_advance(*arguments):
            advance = backend.prepare_advance(*arguments)

            def run(x, out):
                status = advance(x, out)
                np.frombuffer(ffi.buffer(out), "float32")[...] += 1e-7
                return status

            return run

        return backend._replace(prepare_advance=prepare_advance) if name == SPECIAL else backend, seconds

    monkeypatch.setattr(candidates, "build", spoiled)
    for steps in (None, 8):
        made = small().compile(1, steps, stream=True).plan
        assert made.winner == OWN
        assert made.contenders[-1].note == "its bits are not the others'"
    assert small().compile(1, 8).plan.contenders[-1].note == ""


@pytest.mark.parametrize(
    ("found", "winner"),
    [
        ([("a", 0.80, 0.1), ("own", 1.0, None)], "a"),
        ([("a", 0.80, 0.3), ("own", 1.0, None)], "own"),
        ([("a", 0.80, 0.3), ("b", 0.85, 0.05), ("own", 1.0, None)], "b"),
        ([("a", 0.995, 0.0), ("own", 1.0, None)], "own"),
        ([("own", 1.0, None), ("a", 1.1, 0.0), ("wrong", None, None)], "own"),
    ],
)
def test_a_gain_must_be_above_the_noise(found, winner):
    contenders = [plan.Contender(name, seconds=seconds, noise=noise) for name, seconds, noise in found]
    assert plan._winner(contenders, "own") == winner


def test_the_noise_is_what_ratios_of_a_round_differ_by():
    assert timing.spread([1.0, 2.0, 4.0, 8.0], [2.0, 4.0, 8.0, 16.0]) == 0, "slow rounds are slow for both"
    assert timing.spread([0.8, 0.9, 1.0, 1.1, 1.2], [1.0] * 5) == pytest.approx(0.2)


def test_refused():
    with pytest.raises(ValueError, match="cannot stream: its backward direction needs the whole sequence first"):
        lk.LSTM(2, 3, bidirectional=True).compile(stream=True)
    for wrong in ({"batch_size": 0}, {"steps": 0}, {"num_threads": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected at least 1, got 0"):
            small().compile(**wrong)
    with pytest.raises(TypeError, match="steps: expected an integer, got float"):
        small().compile(1, 2.5)


def test_what_is_wrong_does_not_win(cache, monkeypatch):
    right = candidates.build

    def spoiled(name, *network):
        backend, seconds = right(name, *network)
        if name != SPECIAL:
            return backend, seconds

        def forward(weights, batch, *rest):
            backend.lstm_forward(weights, batch, *rest)
            batch.out[...] += by

        return backend._replace(lstm_forward=forward), seconds

    monkeypatch.setattr(candidates, "build", spoiled)
    for by, note in ((1e-3, "its answer is wrong"), (1e-7, "its bits are not the others'")):
        made = small().compile(1, int(1 / by) % 97 + 1).plan
        assert made.winner == OWN
        assert made.contenders[-1].name == SPECIAL
        assert made.contenders[-1].note == note
        assert made.contenders[-1].seconds is None


def test_the_copy_is_a_model_like_any_other(cache):
    fast = small().compile()
    x = np.ones((3, 2), "float32")
    for other in (pickle.loads(pickle.dumps(fast)), copy.deepcopy(fast)):
        assert_same_answer(other(x), fast(x))
    fast.load_state_dict({name: 2 * value for name, value in fast.state_dict().items()})
    assert fast.backend == fast.plan.winner
    assert fast(x)[0].any()


# ---------------------------------------------------------------- what it remembers


@pytest.mark.slow
def test_the_second_time_nothing_is_compiled_or_timed(empty, tmp_path, monkeypatch):
    (tmp_path / "cc.sh").write_text(f'echo called >> {tmp_path}/log\nexec cc "$@"\n')
    monkeypatch.setenv("CC", f"sh {tmp_path}/cc.sh")

    def calls():
        return (tmp_path / "log").read_text().count("called")

    first = small().compile(1, 5)
    assert (first.plan.remembered, calls()) == (False, 1)
    forget_loaded()
    second = small().compile(1, 5)
    assert (second.plan.remembered, calls()) == (True, 1)
    assert second.plan.winner == first.plan.winner
    assert second.plan.contenders == first.plan.contenders
    assert not small().compile(1, 6).plan.remembered
    assert small().compile(1, 5, num_threads=1_000_000).plan.remembered == (cores.available() == 1)
    assert calls() == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["c", "plans"])
@pytest.mark.parametrize("content", [b"", b"short", b"\x7fELF" + bytes(5000)])
def test_a_corrupt_entry_is_made_again(empty, kind, content):
    small().compile(1, 5)
    for path in list((empty / kind).iterdir()):
        path.unlink()  # this process has it loaded
        path.write_bytes(content)
        path.chmod(0o600)
    forget_loaded()
    if kind == "c":
        for path in (empty / "plans").iterdir():
            path.unlink()
    fast = small().compile(1, 5)
    assert not fast.plan.remembered
    assert fast.plan.contenders[-1].note == ""
    assert small().compile(1, 5).plan.remembered


@pytest.mark.slow
def test_without_a_disk(tmp_path, empty, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="keeps no compiled code") as said:
        fast = small().compile(1, 5)
    assert len(said) == 1
    assert [contender.note for contender in fast.plan.contenders] == ["", ""]
    assert not small().compile(1, 5).plan.remembered


def test_without_a_compiler(empty, monkeypatch):
    monkeypatch.setenv("CC", "/no/such/compiler")
    made = small().compile(1, 5).plan
    assert made.winner == OWN
    assert made.contenders[-1].note == "no C compiler: CC='/no/such/compiler' is not a program"


@pytest.mark.parametrize("full", ["the folder", "the library", "the file to load"])
def test_what_may_pass_is_not_remembered(empty, code_of_small, monkeypatch, full):
    """A disk that is full today is no reason to leave kernels out for ever."""
    reason = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_room(*_, **__):
        raise reason

    code = next((code_of_small / "c").iterdir()).read_bytes()
    with monkeypatch.context() as patch:
        if full == "the folder":
            patch.setattr(compile_c.tempfile, "TemporaryDirectory", no_room)
        elif full == "the library":
            patch.setattr(compile_c.subprocess, "run", no_room)
        else:
            patch.setattr(specialised, "compiled", lambda *_: code)
            patch.setattr(compile_c.Path, "write_bytes", no_room)
        made = small().compile(1, 5).plan
    assert made.winner == OWN
    assert "No space left on device" in made.contenders[-1].note
    shutil.copytree(code_of_small, empty, dirs_exist_ok=True)
    again = small().compile(1, 5).plan
    assert not again.remembered
    assert again.contenders[-1].note == ""
    assert small().compile(1, 5).plan.remembered


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("'", "No closing quotation"),
        ("/bin/true", "/bin/true made nothing that can be loaded: .*No such file"),
        ("sh -c 'echo no library > ${@: -1:1}' -", "made nothing that can be loaded|ended with status"),
    ],
)
def test_a_strange_compiler(empty, monkeypatch, command, note):
    monkeypatch.setenv("CC", command)
    made = small().compile(1, 5).plan
    assert made.winner == OWN
    assert re.search(note, made.contenders[-1].note)
    assert not list(empty.glob("c/*"))


@pytest.mark.slow
def test_an_entry_that_cannot_be_loaded_is_compiled_again(empty):
    """It is whole, but made for another machine, or on a disk that programs may not run from."""
    small().compile(1, 5)
    (path,) = (empty / "c").iterdir()
    code = disk_cache.find("c", path.name).content
    path.unlink()  # this process has it loaded
    disk_cache.keep("c", path.name, b"\x7fELF of another machine")
    forget_loaded()
    assert small().compile(1, 6).plan.contenders[-1].note == ""
    assert len(disk_cache.find("c", path.name).content) == len(code)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [30, np.nan])
def test_weights_that_no_float32_is_right_for(empty, random, scale):
    """Nothing is wrong with the kernels: their bits are those of the model as it was."""
    lstm = lk.LSTM(8, 71, seed=0, num_threads=1)
    lstm.load_state_dict({name: np.float32(scale) * value for name, value in lstm.state_dict().items()})
    made = lstm.compile(1, 20).plan
    assert made.contenders[0].seconds > 0
    json.dumps(made.to_dict(), allow_nan=False)


def test_a_plan_is_made_again_where_it_should_be(cache, monkeypatch):
    small().compile(1, 5)
    assert small().compile(1, 5).plan.remembered
    again = small().compile(1, 5, refresh=True).plan
    assert not again.remembered
    assert small().compile(1, 5).plan.contenders == again.contenders
    noises = [contender.noise for contender in again.contenders if contender.name != OWN]
    assert noises == [again.noise]
    monkeypatch.setattr(plan, "MOST_NOISE", -1)
    assert not small().compile(1, 5).plan.remembered


def test_a_plan_of_another_version_is_made_again(cache):
    small().compile(1, 5)
    (path,) = (cache / "plans").iterdir()
    fields = json.loads(disk_cache.find("plans", path.name).content)
    disk_cache.keep("plans", path.name, json.dumps({**fields, "new_field": 1}).encode())
    assert not small().compile(1, 5).plan.remembered


def test_the_environment_is_not_baked_in(cache, monkeypatch):
    monkeypatch.setenv("LSTMKERNEL_NUM_THREADS", "1")
    lstm = lk.LSTM(2, 3, seed=0)
    assert lstm.compile(1, 5).config() == lstm.config()
    assert lstm.compile(1, 5, num_threads=1).config()["num_threads"] == 1


def test_parameters_are_shared(cache):
    lstm = small()
    assert all(a is b for a, b in zip(lstm.state_dict().values(), lstm.compile().state_dict().values(), strict=True))


def test_the_compilers_own_words(empty, monkeypatch):
    monkeypatch.setattr(specialised, "FLAGS", (*specialised.FLAGS, "-Dvec=7"))
    note = small().compile(1, 5).plan.contenders[-1].note
    assert "ended with status 1" in note
    assert "error:" in note
    assert "csrc/" in note


@pytest.mark.slow
def test_many_processes_at_once(tmp_path):
    program = f"""
import lstmkernel as lk
from lstmkernel import plan
from lstmkernel.tuning import candidates, timing
plan.SECONDS = 0.01
candidates.names = lambda own: [{OWN!r}, {SPECIAL!r}]
made = lk.LSTM(2, 3, seed=0, num_threads=1).compile(1, 5).plan
assert all(contender.same_bits for contender in made.contenders), made
"""
    with ThreadPoolExecutor(3) as threads:
        environment = {"LSTMKERNEL_CACHE_DIR": str(tmp_path)}
        for done in threads.map(lambda _: run_python(program, env=environment), range(3)):
            assert isinstance(done, subprocess.CompletedProcess)
    assert not list(tmp_path.rglob("*.unfinished"))
