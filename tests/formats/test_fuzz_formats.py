"""Files of every format, changed at random: a network or a FormatError comes out, whatever went in.

Each target gets a few examples, or as many as fit into ``LSTMKERNEL_FUZZ_SECONDS`` of CPU time: some in CI, hours by
hand, where ``-s`` tells how many they were. What fails is printed as the edits that make the file.
"""

from __future__ import annotations

import os
import time

import pytest
from fuzz_targets import targets
from hostile import Edit, Target, refused_or_loaded

pytestmark = pytest.mark.slow

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

SECONDS = float(os.environ.get("LSTMKERNEL_FUZZ_SECONDS", "0"))
FIRST_ROUND = int(os.environ.get("LSTMKERNEL_FUZZ_ROUND", "0"))

#: What lengths, counts and offsets may be replaced by, and what opens something that must end.
TELLING = [b"\xff" * n for n in (1, 2, 4, 8)] + [b"\0" * n for n in (1, 2, 4, 8)]
TELLING += [
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"[" * 50,
    b'{"a":' * 50,
    b"-1",
    b"1e999",
    b"NaN",
    b'"',
]

edits = st.lists(
    st.builds(
        Edit,
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.integers(0, 9), st.integers(0, 1 << 16)),
        st.one_of(st.binary(max_size=9), st.sampled_from(TELLING)),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_any_file(target: Target, tmp_path) -> None:
    path = tmp_path / f"fuzzed{target.suffix}"
    path.write_bytes(target.wrap(target.payload))
    assert refused_or_loaded(path)

    inputs = 0

    def try_one(changes: list[Edit]) -> None:
        nonlocal inputs
        inputs += 1
        payload = target.payload
        for edit in changes:
            payload = edit.applied(payload)
        path.write_bytes(target.wrap(payload))
        refused_or_loaded(path)

    end, number = time.process_time() + SECONDS, FIRST_ROUND
    while number == FIRST_ROUND or time.process_time() < end:
        settings = hypothesis.settings(
            max_examples=300 if SECONDS > 60 else 30,  # so that a round is over in seconds, and hours have few rounds
            deadline=None,
            database=None,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],  # of a busy machine
        )
        hypothesis.seed(number)(settings(hypothesis.given(edits)(try_one)))()
        number += 1
    print(f"{target.name}: {inputs} inputs, rounds {FIRST_ROUND} to {number - 1}")
