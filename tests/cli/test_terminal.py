"""The output of single commands in a pseudo-terminal: tables, Markdown and colours."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from openaiasync.server import ServerThread

from .command import COMMAND, environment, spied
from .test_chat import chunk, streamed

pexpect = pytest.importorskip("pexpect", reason="needs a pseudo-terminal")

pytestmark = pytest.mark.commands
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def terminal(*arguments: str, **env: str) -> Iterator[Any]:
    """A command in a pseudo-terminal; ended with the block."""
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], *arguments], env=environment(**env), timeout=20, encoding="utf-8", echo=False
    )
    try:
        yield child
    finally:
        if not child.closed and child.isalive():
            child.kill(signal.SIGKILL)
            child.wait()
        child.close()


def ended(child: Any) -> int:
    child.expect(pexpect.EOF)
    child.close()
    code: int = child.exitstatus
    return code


def test_a_conversation_without_a_server_ends_at_once() -> None:
    """Without a server no prompt is shown: the model cannot be chosen."""
    with terminal("chat", "--base-url", "http://127.0.0.1:9/v1") as child:
        child.expect("openaiasync: ")
        assert ended(child) == 1


def test_json_needs_a_question() -> None:
    """`--json` without a question is refused."""
    with terminal("chat", "--json", "--base-url", "http://127.0.0.1:9/v1") as child:
        child.expect("--json needs a question")
        assert ended(child) == 2


def test_an_answer_cannot_steer_the_terminal() -> None:
    """Control characters of a model or server are shown as replacement characters."""
    parts = (chunk("red \x1b[31mtext\x07 \x9b2J"), chunk("!", "stop"), b"data: [DONE]\n\n")
    with (
        spied(lambda path, body: streamed(*parts)) as (server, _),
        terminal("chat", "hello", "-m", "any", "--base-url", server.base_url) as child,
    ):
        child.expect("red \ufffd\\[31mtext\ufffd \ufffd2J!\r\n")
        assert ended(child) == 0


def test_a_person_gets_columns_and_colour(server: ServerThread) -> None:
    """Models are a table; complaints have colour unless NO_COLOR is set."""
    with terminal("models", "--base-url", server.base_url) as child:
        child.expect("owned by")
        child.expect("2026-01-01")
        assert ended(child) == 0
    for no_color in ({}, {"NO_COLOR": "1"}):
        with terminal("nothing", **no_color) as child:
            child.expect(pexpect.EOF)
            colours = {code for code in COLOUR.findall(child.before) if re.search(r"[;\[]3[0-7]", code)}
            assert bool(colours) == (not no_color)


def test_the_demo_in_a_terminal() -> None:
    """Headings in colour, a progress bar, and the table at the end."""
    with terminal("demo", "--calls", "200", COLUMNS="100") as child:
        child.expect("token by token")
        child.expect("200 chats")
        child.expect("/200")
        child.expect("calls/s")
        assert ended(child) == 0
