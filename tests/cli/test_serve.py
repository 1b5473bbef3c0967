"""`openaiasync serve`: its address, its key, its end."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .command import call, inside, one_line, started


def get(url: str, key: str | None = None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(
    ("number", "code", "host"), [(signal.SIGINT, 130, "127.0.0.1"), (signal.SIGTERM, 0, "0.0.0.0")]
)
def test_serve_until_a_signal(number: signal.Signals, code: int, host: str) -> None:
    """The first line is the base URL; commands work against it; a signal ends it quickly, without a traceback.

    A server on every address without a key prints a warning.
    """
    with started("serve", "--port", "0", "--host", host) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        url = child.stdout.readline().decode().strip()
        assert url.startswith("http://127.0.0.1:")
        done = inside("chat", "say hello", "--base-url", url)
        assert done.stdout == "hello\n"
        began = time.monotonic()
        child.send_signal(number)
        assert child.wait(10) == code
        assert time.monotonic() - began < 5
        told = child.stderr.read()
        assert b"Traceback" not in told
        assert (b"--api-key" in told) == (host == "0.0.0.0")


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_a_key_is_asked_for(way: str) -> None:
    """With --api-key, requests without the key are refused."""
    arguments = ["--api-key", "secret"] if way == "argument" else []
    env = {"OPENAIASYNC_DEMO_KEY": "secret"} if way == "variable" else {}
    with started("serve", "--port", "0", *arguments, **env) as child:
        assert child.stdout is not None
        url = child.stdout.readline().decode().strip()
        assert get(f"{url}/models") == 401
        assert get(f"{url}/models", "wrong") == 401
        assert get(f"{url}/models", "secret") == 200


def test_a_port_that_is_taken() -> None:
    """A port in use ends with exit code 1 and one line that names address and port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("serve", "--port", str(port))
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert f"127.0.0.1:{port}" in done.stderr
    assert done.stdout == ""


def test_token_delay() -> None:
    """`--token-delay` is the time for each token of an answer."""
    with started("serve", "--port", "0", "--token-delay", "0.05") as child:
        assert child.stdout is not None
        url = child.stdout.readline().decode().strip()
        began = time.monotonic()
        done = inside("chat", "say one two three four five six seven eight", "-m", "demo-chat", "--base-url", url)
        assert done.stdout == "one two three four five six seven eight\n"
        assert time.monotonic() - began > 0.35


GARBAGE = """
import gc

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = f"{gc.isenabled()} {gc.get_threshold()[0]} {gc.get_freeze_count()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def test_a_server_collects_little_garbage(tmp_path: Path) -> None:
    """The collector stays on, but not for each 36 requests, and it passes over what was imported."""
    (tmp_path / "garbage_report.py").write_text(GARBAGE)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    with started("serve", "garbage_report:app", "--port", "0", PYTHONPATH=path) as child:
        assert child.stdout is not None
        url = child.stdout.readline().decode().strip()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            enabled, threshold, frozen = answer.read().decode().split()
    assert enabled == "True"
    assert int(threshold) >= 5_000
    assert int(frozen) > 5_000
