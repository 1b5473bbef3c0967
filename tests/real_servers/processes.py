"""Starts a server that others wrote as a child process on a free loopback port, and stops it for good."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

STARTS = 3  # a free port may be taken by somebody else before the server binds it
QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


class Running(NamedTuple):
    """A server that answers."""

    url: str  # scheme, host and port
    pid: int
    log: Path


class NotStarted(Exception):
    """The server ended, or gave no answer in time; holds the end of its log."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    command: Callable[[int], Sequence[str]],
    log: Path,
    *,
    health: str = "/health",
    wait: float = 60.0,
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Running]:
    """Run `command(port)` until the block ends; enters once `health` is answered with a status below 400.

    `wait` in seconds. Raises `NotStarted`.
    """
    for last in (False,) * (STARTS - 1) + (True,):
        port = free_port()
        with log.open("ab") as out:
            child = subprocess.Popen(
                command(port),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env={**os.environ, **QUIET, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )
        try:
            if _answers(f"http://127.0.0.1:{port}{health}", child, wait):
                yield Running(f"http://127.0.0.1:{port}", child.pid, log)
                return
            if last or child.poll() is None:
                text = log.read_text(encoding="utf-8", errors="replace")[-4000:]
                raise NotStarted(
                    f"{command(port)[0]} gave no answer, its exit code is {child.poll()}; its log:\n{text}"
                )
        finally:
            _stop(child)


def _answers(url: str, child: subprocess.Popen[bytes], wait: float) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + wait
    while child.poll() is None and time.monotonic() < end:
        try:
            with opener.open(url, timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        time.sleep(0.05)
    return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End of input first, then SIGTERM, then SIGKILL to the whole group; waits until it is gone."""
    if child.stdin is not None:
        child.stdin.close()
    for sign, seconds in ((None, 1.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if sign is not None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, sign)
        try:
            child.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue
