"""The fuzzer's judges: right for what we have, and able to find a fault."""

from __future__ import annotations

import random
import zlib

import pytest

from fuzz import oracles, target


@pytest.mark.parametrize("name", list(target.TARGETS))
def test_every_seed_passes(name: str) -> None:
    """What real servers sent keeps every promise, and so does a first round of mutations."""
    dice = random.Random(1)
    pool = target.seeds()[name]
    assert len(pool) >= 20
    for data in pool[:15]:
        target.TARGETS[name](data, dice)
        target.TARGETS[name](target.mutated(data, pool, dice), dice)


def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that takes CR for no line end, and one that forgets a checksum, are caught."""

    class Deaf(oracles.SSEDecoder):
        def feed(self, piece: bytes) -> list[object]:  # type: ignore[override]
            return list(super().feed(piece.replace(b"\r", b"")))

    class Trusting(oracles.Inflater):
        def finish(self) -> bytes:
            return b""

    monkeypatch.setattr(oracles, "SSEDecoder", Deaf)
    monkeypatch.setattr(oracles, "Inflater", Trusting)
    with pytest.raises(AssertionError):
        oracles.check_sse(b"data: a\r\rdata: b\n\n", random.Random(1))
    with pytest.raises(AssertionError):
        oracles.check_coding(zlib.compress(b"hello")[:-2], random.Random(1))


def test_coverage_grows_with_what_is_new() -> None:
    """An input that takes new lines is told from one that takes none."""
    coverage = target.Coverage()
    dice = random.Random(1)
    assert coverage.run(lambda: oracles.check_sse(b"data: a\n\n", dice))
    assert coverage.run(lambda: oracles.check_sse(b"event: x\r\ndata: a\r\n\r\n", dice))
