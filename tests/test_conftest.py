"""The leak check itself: what it catches, in an inner pytest run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import clock
from conftest import LONG, TESTS

LEAKY = """
import asyncio, os, socket, threading

kept = []
event = threading.Event()

def test_socket():
    kept.append(socket.socket())

def test_thread():
    threading.Thread(target=event.wait, args=(9,), daemon=True).start()

def test_task():
    async def main():
        kept.append(asyncio.create_task(asyncio.sleep(9)))
        await asyncio.sleep(0)
    asyncio.run(main())

def test_unseen_error():
    async def main():
        asyncio.get_running_loop().create_future().set_exception(ValueError())
    asyncio.run(main())

def test_variable():
    os.environ["SOME_SETTING"] = "1"

def test_clean():
    assert "OPENAI_API_KEY" not in os.environ
    assert "https_proxy" not in os.environ
    async def main():
        return await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))
    assert asyncio.run(main()) == [1, 2]
"""
COMPLAINTS = {
    "socket": "sockets left open",
    "thread": "threads left running",
    "task": "tasks left running",
    "unseen_error": "errors only the event loop saw",
    "variable": "the test changed the environment for good: ['SOME_SETTING']",
}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open sockets are counted in /proc")
def test_what_a_test_leaves_behind_fails_it(tmp_path: Path) -> None:
    """A leaked socket, thread, task, unseen error or changed variable fails the very test that caused it, no other."""
    source = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    (tmp_path / "clock.py").write_text(Path(clock.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "conftest.py").write_text(source.replace("GRACE = 2.0", "GRACE = 0.2"), encoding="utf-8")
    (tmp_path / "test_leaky.py").write_text(LEAKY, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-c", os.devnull, str(tmp_path)]
    environment = {**os.environ, "OPENAI_API_KEY": "of the user", "https_proxy": "http://127.0.0.1:9", "COLUMNS": "300"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=50, check=False, env=environment, cwd=tmp_path
    )
    lines = done.stdout.splitlines()
    for name, complaint in COMPLAINTS.items():
        (line,) = (line for line in lines if line.startswith("ERROR") and f"::test_{name} " in line)
        assert complaint in line
    assert lines[-1].startswith("6 passed, 5 errors"), done.stdout


def test_the_files_that_begin_first_are_there() -> None:
    """A file that was renamed is named here by its new name."""
    assert [name for name in LONG if not (TESTS / name).is_file()] == []
