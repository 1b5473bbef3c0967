"""What a person sees: conversations, tables and colours in a pseudo-terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from openaiasync.server import ServerThread

from .command import COMMAND, Answer, environment, refused, spied
from .test_chat import chunk, streamed

pexpect = pytest.importorskip("pexpect", reason="needs a pseudo-terminal")

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PROMPT = "\r\n(?:\x1b\\[\\?2004h)?> "


@contextmanager
def terminal(*arguments: str, **env: str) -> Iterator[Any]:
    """A command in a pseudo-terminal; ended with the block."""
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], *arguments], env=environment(**env), timeout=20, encoding="utf-8", echo=False
    )
    try:
        yield child
    finally:
        child.close(force=True)


@contextmanager
def talking(answer: Callable[[str, Any], Answer] = lambda path, body: None, *more: str) -> Iterator[Any]:
    """A conversation at its first prompt, and its server's spy."""
    with (
        spied(answer) as (server, spy),
        terminal("chat", "-m", "demo-chat", "--base-url", server.base_url, *more) as child,
    ):
        child.expect("Ctrl-D")
        child.expect(PROMPT)
        yield child, spy, server


def ended(child: Any) -> int:
    child.expect(pexpect.EOF)
    child.close()
    code: int = child.exitstatus
    return code


def test_a_conversation_has_a_history() -> None:
    """Each question goes out with all that was said before, the system prompt first; Ctrl-D ends with exit code 0."""
    with talking(lambda path, body: None, "-s", "Be brief.") as (child, spy, _):
        child.sendline("say one")
        child.expect("one\r\n")
        child.expect("> ")
        child.sendline("")
        child.expect("> ")
        child.sendline("say two")
        child.expect("two\r\n")
        child.expect("> ")
        child.sendeof()
        assert ended(child) == 0
    assert [body["messages"] for body in spy.bodies("/chat/completions")][1] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "say one"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "say two"},
    ]


def test_exit_ends_a_conversation() -> None:
    """The word alone ends it, without a call."""
    with talking() as (child, spy, _):
        child.sendline("exit")
        assert ended(child) == 0
    assert spy.bodies("/chat/completions") == []


def test_ctrl_c_stops_the_answer_but_not_the_chat() -> None:
    """The server is rid of the call, the turn is forgotten, and the next question gets its answer."""
    with talking() as (child, spy, server):
        child.sendline("count to 5000")
        child.expect("1, 2, 3|1 2 3")
        child.sendintr()
        child.expect("Stopped")
        child.expect("> ")
        child.sendline("say still here")
        child.expect("still here\r\n")
        assert server.server.in_flight == 0
        child.expect("> ")
        time.sleep(0.3)  # Python's readline misses a signal between the prompt and its waiting
        child.sendintr()
        child.expect("> ")
        child.sendeof()
        assert ended(child) == 0
    assert spy.bodies("/chat/completions")[1]["messages"] == [{"role": "user", "content": "say still here"}]


def test_an_error_ends_a_turn_only() -> None:
    """A refused question is forgotten; the conversation goes on."""
    with talking(lambda path, body: refused("not that") if "bad" in str(body) else None) as (child, spy, _):
        child.sendline("something bad")
        child.expect("openaiasync: .*not that")
        child.expect("> ")
        child.sendline("say fine")
        child.expect("fine\r\n")
        child.expect("> ")
        child.sendeof()
        assert ended(child) == 0
    assert spy.bodies("/chat/completions")[-1]["messages"] == [{"role": "user", "content": "say fine"}]


def test_a_conversation_without_a_server_ends_at_once() -> None:
    """No prompt where nobody could answer: the model cannot even be chosen."""
    with terminal("chat", "--base-url", "http://127.0.0.1:9/v1") as child:
        child.expect("openaiasync: ")
        assert ended(child) == 1


def test_json_needs_a_question() -> None:
    """A conversation is no JSON."""
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
