"""A call and an event cost no more than their limit, as a ratio to a bare protocol (`bench/instructions.py`)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "instructions.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not on this machine")
def test_the_ratio_to_the_floor() -> None:
    """What is added to the usual way of a call has to be paid for somewhere else on it.

    This is the full measurement, for which the limits are meant. It takes three minutes of CPU time, on two idle cores
    half of that. A shorter one spreads one-off costs over fewer calls on both sides, so that its ratios are lower.
    """
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    for row in ("64 in flight", "one at a time", "burst stream", "first client"):
        assert row in done.stdout
