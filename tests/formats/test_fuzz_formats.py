"""Files of every format, changed at random: a network or a FormatError comes out, whatever went in.

Each target gets a few examples, or as many as fit into ``LSTMKERNEL_FUZZ_SECONDS`` of CPU time: some in CI, hours by
hand, where ``-s`` tells how many they were. What fails is printed as the file that was changed (0: the target's own,
others: fuzz_corpus.py) and the edits. With ``LSTMKERNEL_FUZZ_KEEP=1``, files with a new outcome are stored.
"""

from __future__ import annotations

import os
import time

import pytest
from fuzz_corpus import MOST_TIMES, store, stored
from fuzz_targets import targets
from hostile import Edit, Outcome, Target, outcome

pytestmark = pytest.mark.slow

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

SECONDS = float(os.environ.get("LSTMKERNEL_FUZZ_SECONDS", "0"))
FIRST_ROUND = int(os.environ.get("LSTMKERNEL_FUZZ_ROUND", "0"))
KEEP = os.environ.get("LSTMKERNEL_FUZZ_KEEP") == "1"

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
    found: dict[Outcome, bytes] = {}

    def try_payload(payload: bytes) -> None:
        path.write_bytes(target.wrap(payload))
        seen = outcome(path)
        if len(payload) <= MOST_TIMES * len(target.payload):
            found.setdefault(seen, payload)

    try_payload(target.payload)
    assert list(found) == [()], "the target loads"
    for payload in stored(target):
        try_payload(payload)

    inputs, known = 0, len(found)

    def try_one(which: int, changes: list[Edit]) -> None:
        nonlocal inputs
        inputs += 1
        payload = bases[which % len(bases)]
        for edit in changes:
            payload = edit.applied(payload)
        try_payload(payload)

    end, number = time.process_time() + SECONDS, FIRST_ROUND
    while number == FIRST_ROUND or time.process_time() < end:
        bases = list(found.values())  # as they are now: within a round, the same numbers must give the same file
        settings = hypothesis.settings(
            max_examples=300 if SECONDS > 60 else 30,  # so that a round is over in seconds, and hours have few rounds
            deadline=None,
            database=None,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],  # of a busy machine
        )
        hypothesis.seed(number)(settings(hypothesis.given(st.integers(0, 1 << 16), edits)(try_one)))()
        number += 1
    print(f"{target.name}: {inputs} inputs, rounds {FIRST_ROUND} to {number - 1}, {len(found) - known} new outcomes")
    if KEEP:
        store(target, list(found.values())[1:])
