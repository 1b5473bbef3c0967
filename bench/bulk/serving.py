"""Start the simulated server of `server.py` as a process, change its options and read its report."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Server", "running"]


class Server:
    """A running simulated server: `base` is the URL of its API."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        self.port: int = ports["port"]
        self.base = f"http://127.0.0.1:{self.port}/v1"
        self._control = f"http://127.0.0.1:{ports['control']}"

    def report(self) -> dict[str, Any]:
        """Return the counts since the start or the last `reset`."""
        with urllib.request.urlopen(f"{self._control}/report", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def set(self, **options: Any) -> None:
        """Change options from now on; ``down=True`` and ``down=False`` stop and restart the server."""
        self._post("/set", options)

    def reset(self) -> None:
        """Reset the counts."""
        self._post("/reset", {})

    def _post(self, path: str, value: dict[str, Any]) -> None:
        request = urllib.request.Request(self._control + path, json.dumps(value).encode(), method="POST")
        urllib.request.urlopen(request, timeout=30).close()


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Server]:
    """Run a simulated server with these options (those of ``server.py --help``) during the block."""
    words = [sys.executable, str(Path(__file__).with_name("server.py"))]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not False:
            words += [flag, str(value)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.kill()
