"""training.py: both trainers give the gradients of the definition; memory and table are right."""

import pytest
import training
from contender_process import Process
from trainers import TRAINERS

from lstmkernel.workbench.shapes import parse


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_gives_the_same_gradients(trainer, tmp_path):
    if missing := TRAINERS[trainer].missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    process = Process(trainer, 1)
    assert 0 < process.prepare(training.write_case(parse("2,3,4,5,2,2"), str(tmp_path))) <= 10
    assert all(0 < seconds < 1 for seconds in process.time(0.01))
    process.close()


def test_the_memory_of_a_call(tmp_path):
    """At least its tape, six numbers for each unit, row and step; and dL/d(out)."""
    shape = parse("50,200,3,64")
    found = training.weighed("lstmkernel, training", training.write_case(shape, str(tmp_path)))
    assert 7 * 4 * 200 * 50 * 64 < found < 15 * 4 * 200 * 50 * 64


def test_the_table_says_how_many_times_as_fast():
    said = training.markdown([training.Row(parse("2,3,4,5"), [0.5, 1.0], [1e6, 2e6])])
    assert "| 2.00 | 1.0 MB | 2.0 MB |" in said
    assert "Geometric mean 2.00, least 2.00." in said
