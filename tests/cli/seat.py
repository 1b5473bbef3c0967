"""A conversation in a pseudo-terminal: typing, waiting for the prompt, reading the screen."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from openaiasync.demo import demo_app
from openaiasync.server import ServerThread

from .command import COMMAND, Answer, Spy, environment, spied
from .glass import Glass

pexpect = pytest.importorskip("pexpect", reason="needs a pseudo-terminal")

COLUMNS, ROWS = 100, 40
PATIENCE = 30.0  # seconds until something that has to be seen is taken as missing


class Seat:
    """A running conversation."""

    def __init__(self, child: Any, spy: Spy, server: ServerThread) -> None:
        self.child = child
        self.spy = spy
        self.server = server
        self.glass = Glass(COLUMNS, ROWS)
        self.written = ""

    def _read(self) -> bool:
        """Read output; return whether there may be more."""
        try:
            data = self.child.read_nonblocking(65_536, timeout=0.05)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.written += data
        self.glass.feed(data)
        return True

    def until(self, seen: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds; `what` is for the error."""
        end = time.monotonic() + PATIENCE
        while not seen():
            more = self._read()
            if not seen() and (not more or time.monotonic() > end):
                raise AssertionError(f"{what} is not on the screen:\n{self.glass.text}")

    def see(self, pattern: str) -> None:
        """Wait until the screen matches the pattern."""
        self.until(lambda: re.search(pattern, self.glass.text) is not None, pattern)

    def prompted(self, count: int) -> None:
        """Wait for the prompt with that number."""
        self.until(lambda: self._prompts() >= count and self.glass.lines[self.glass.row] == ">", f"prompt {count}")

    def _prompts(self) -> int:
        return sum(line == ">" or line.startswith("> ") for line in self.glass.lines)

    def type(self, text: str) -> None:
        """Press keys."""
        self.child.send(text)

    def say(self, text: str, end: str = "\r") -> str:
        """Type a line, wait for the next prompt, and return the output below the line, without empty lines."""
        prompts, before = self._prompts(), self.glass.row
        self.type(text + end)
        self.prompted(prompts + 1)
        shown = [line for line in self.glass.lines[before:] if line]
        return "\n".join(shown[1:-1])

    def asked(self) -> list[list[dict[str, Any]]]:
        """The messages of every request that the server saw."""
        return [body["messages"] for body in self.spy.bodies("/chat/completions")]

    def leave(self, keys: str = "\x04") -> int:
        """End the conversation and return its exit code."""
        self.type(keys)
        end = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < end, self.glass.text
        self.child.close()
        code: int = self.child.exitstatus
        return code


def nobody(path: str, body: Any) -> Answer:
    """Let the demo models answer."""
    return None


@contextmanager
def seat(
    *arguments: str, answer: Callable[[str, Any], Answer] = nobody, token_delay: float = 0.0, **env: str
) -> Iterator[Seat]:
    """A conversation at its first prompt; ended with the block. `token_delay` is the pause before each token."""
    command = [*COMMAND[1:], "chat", "-m", "demo-chat", *arguments]
    with spied(answer, demo_app(token_delay=token_delay, strict=True)) as (server, spy):
        child = pexpect.spawn(
            COMMAND[0],
            [*command, "--base-url", server.base_url],
            env=environment(**env),
            encoding="utf-8",
            dimensions=(ROWS, COLUMNS),
        )
        child.delaybeforesend = None
        try:
            made = Seat(child, spy, server)
            made.prompted(1)
            yield made
        finally:
            if not child.closed and child.isalive():
                child.kill(signal.SIGKILL)
                child.wait()
            child.close()
