"""A conversation in a pseudo-terminal: turns, Ctrl-C, errors, pasted lines, history, tools, schemas, terminals."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from openaiasync import Client
from openaiasync.cli.render import show_turn
from openaiasync.cli.repl import Repl
from openaiasync.testing import FakeServer

from .command import call, refused
from .seat import seat
from .test_chat import chunk, streamed

pytestmark = pytest.mark.commands
UP = "\x1b[A"


def test_a_conversation_has_a_history() -> None:
    """Each request has the earlier messages, the system prompt first; Ctrl-D ends with exit code 0."""
    with seat("-s", "Be brief.") as me:
        me.see("Ctrl-D")
        assert me.say("say one").splitlines()[-1] == "one"
        assert me.say("") == ""
        assert me.say("say two", "\n").splitlines()[-1] == "two"
        assert me.leave() == 0
        assert me.asked()[1] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "say one"},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": "say two"},
        ]


def test_exit_ends_a_conversation(state_folder: Path) -> None:
    """`exit` ends the conversation without a request; an empty conversation leaves no file."""
    with seat() as me:
        assert me.leave("exit\r") == 0
        assert me.asked() == []
    assert list(state_folder.glob("*")) == []


def test_ctrl_c_stops_the_answer_but_not_the_chat() -> None:
    """Ctrl-C cancels the call and drops the turn; the next question is answered."""
    with seat(token_delay=0.01) as me:
        me.type("count to 10000\r")
        me.see("1, 2, 3|1 2 3")
        me.type("\x03")
        me.see("Stopped")
        me.prompted(2)
        assert me.say("say still here").splitlines()[-1] == "still here"
        assert me.server.server.in_flight == 0
        me.type("half a question\x03")
        me.prompted(4)
        assert me.leave() == 0
        assert me.asked()[1] == [{"role": "user", "content": "say still here"}]
        assert len(me.asked()) == 2


def test_a_home_that_cannot_be_written() -> None:
    """A conversation without a name goes on without being saved, and says so; one with a name is refused."""
    nowhere = "/proc/nowhere" if Path("/proc").exists() else "/dev/null/nowhere"
    with seat("--no-log", XDG_STATE_HOME=nowhere) as me:
        assert "will not be saved: cannot create the folder" in me.glass.text
        assert me.say("say one") == "one"
        assert me.leave() == 0
    done = call(
        "chat", "hi", "--session", "mine", "-m", "m", "--base-url", "http://127.0.0.1:9/v1", XDG_STATE_HOME=nowhere
    )
    assert done.returncode == 2
    assert "set XDG_STATE_HOME to another place" in done.stderr


def test_an_error_ends_a_turn_only() -> None:
    """A refused question is dropped; the conversation goes on and may ask it again."""
    refusing = [True]

    def answer(path: str, body: Any) -> Any:
        return refused("not that") if refusing[0] and "bad" in str(body) else None

    with seat(answer=answer) as me:
        assert "not that" in me.say("say something bad")
        assert me.say("say fine").endswith("fine")
        assert me.asked()[-1] == [{"role": "user", "content": "say fine"}]
        assert "not that" in me.say("say something bad")
        refusing[0] = False
        assert me.say("/retry").endswith("something bad")
        assert me.leave() == 0


def test_a_pasted_question() -> None:
    """Several pasted lines are one question with its line ends; a line with a slash in it is not a command."""
    with seat() as me:
        me.say("\x1b[200~say one\n/two\r\nthree\x1b[201~")
        me.say("/etc/passwd is what?")
        me.say("say a\x1b\rb")
        assert [messages[-1]["content"] for messages in me.asked()] == [
            "say one\n/two\nthree",
            "/etc/passwd is what?",
            "say a\nb",
        ]


def test_arrows_bring_back_questions() -> None:
    """Earlier questions can be recalled and changed, also in a continued session."""
    with seat("--session", "mine") as me:
        me.say("say one")
        me.say("say two")
        me.say(f"{UP}{UP} more")
        assert me.asked()[-1][-1]["content"] == "say one more"
        assert me.leave() == 0
    with seat("--session", "mine") as me:
        me.see("Continuing mine; questions so far: 3")
        me.type(UP)
        me.see("> say one more")
        me.say(" again")
        assert me.asked()[-1][-1]["content"] == "say one more again"


COLOURS = re.compile("[349][0-7]|38|48")


def colours(written: str) -> set[str]:
    """The parameters of escape codes that set a colour (ECMA-48, SGR)."""
    found = ";".join(re.findall(r"\x1b\[([0-9;]*)m", written)).split(";")
    return {one for one in found if COLOURS.fullmatch(one)}


def test_markdown_on_the_terminal() -> None:
    """An answer is laid out without traces of earlier drawings; a broken one shows its beginning and the reason."""
    parts = (chunk("# Ti"), chunk("tle\n\nSome **bo"), chunk("ld** text\n\n```python\nx = 1"), chunk("\n```", "stop"))
    broken = streamed(chunk("Half an "), chunk("**answer**"))

    def answer(path: str, body: Any) -> Any:
        return broken if "break off" in str(body) else streamed(*parts, b"data: [DONE]\n\n")

    with seat(answer=answer) as me:
        assert me.say("hello").splitlines() == ["Title", "Some bold text", " x = 1"]
        assert colours(me.written)
        shown = me.say("break off").splitlines()
        assert shown[0] == "Half an answer"
        assert shown[1].startswith("openaiasync: ")


def test_a_dumb_terminal() -> None:
    """With TERM=dumb no escape code is written, and everything works."""
    with seat("--session", "dumb", TERM="dumb") as me:
        assert me.say("say **one**", "\n").splitlines()[-1] == "**one**"
        assert "no command /udno; did you mean /undo?" in me.say("/udno", "\n")
        assert "Taken back" in me.say("/undo", "\n")
        assert me.leave() == 0
        assert "\x1b" not in me.written


def test_no_color() -> None:
    """NO_COLOR: no escape code sets a colour, of an answer, a note, a complaint or the prompt."""
    parts = streamed(chunk("# T\n\n```python\nx = 1\n```\n\n`y`", "stop"), b"data: [DONE]\n\n")
    with seat(answer=lambda path, body: parts, NO_COLOR="1") as me:
        me.say("hello")
        me.say("/udno")
        assert colours(me.written) == set()


TOOLS = '''
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b

def broken(a: int) -> int:
    """Always fails."""
    raise ValueError("no luck")
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "toolbox_of_mine.py").write_text(TOOLS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def calls(name: str, arguments: str) -> Any:
    """A server whose first answer calls a tool, and whose second quotes the result."""

    def answer(path: str, body: Any) -> Any:
        if not body or not body.get("tools"):
            return None
        last = body["messages"][-1]
        if last["role"] == "tool":
            return streamed(chunk(f"It told me {last['content']}"), chunk("", "stop"), b"data: [DONE]\n\n")
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
        made: Any = {"tool_calls": [call]}
        return streamed(chunk("", **made), chunk("", "tool_calls"), b"data: [DONE]\n\n")

    return answer


def test_tools(here: Path) -> None:
    """A named tool runs and is shown with its arguments and result; /tools lists and adds tools."""
    with seat("--tool", "toolbox_of_mine:add", answer=calls("add", '{"a": 2, "b": 40}')) as me:
        assert me.say("what is 2 + 40?").splitlines() == ['add({"a": 2, "b": 40})', "add: 42", "It told me 42"]
        assert me.say("/tools").endswith("add: Add two numbers.")
        assert "broken: Always fails." in me.say("/tools toolbox_of_mine:broken")
        assert "has no 'none'" in me.say("/tools toolbox_of_mine:none")
        assert me.leave() == 0


def test_a_tool_that_fails(here: Path) -> None:
    """The error of a tool is shown and sent to the model."""
    with seat("-T", "toolbox_of_mine:broken", answer=calls("broken", '{"a": 1}')) as me:
        shown = me.say("try").splitlines()
        assert shown[0] == 'broken({"a": 1})'
        assert "broken failed: " in shown[1]
        assert "no luck" in shown[1]
        assert "no luck" in shown[2]


def test_a_schema(here: Path) -> None:
    """The schema is requested, and every answer is JSON that fits it."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "title": "number"}
    (here / "s.json").write_text(json.dumps(schema), encoding="utf-8")
    with seat("--schema", "s.json") as me:
        shown = me.say("What is two plus three?")
        value = json.loads(shown)
        assert list(value) == ["n"]
        assert isinstance(value["n"], int)
        (body,) = me.spy.bodies("/chat/completions")
        assert body["response_format"]["json_schema"]["schema"]["properties"] == {"n": {"type": "integer"}}


def test_nothing_is_imported_for_a_question() -> None:
    """A single question through a pipe needs neither the editor nor what draws Markdown."""
    code = (
        "import sys, openaiasync.cli.command_line as app\n"
        "app.run(['chat', 'hi', '--base-url', 'http://127.0.0.1:9/v1', '-m', 'm'])\n"
        "print([name for name in ('prompt_toolkit', 'markdown_it', 'openaiasync.cli.repl')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_a_conversation_outgrows_the_context() -> None:
    """The oldest questions are left out of requests, with one note each; the session keeps them."""

    def narrow(path: str, body: Any) -> Any:
        if not path.endswith("/chat/completions") or len(body["messages"]) < 4:
            return None
        text = "This model's maximum context length is 40 tokens. However, your request has 50 input tokens."
        return 400, json.dumps({"error": {"message": text, "type": "BadRequestError", "code": 400}}).encode()

    with seat(answer=narrow) as me:
        assert me.say("say one").splitlines()[-1] == "one"
        assert "two" in me.say("say two")
        assert "three" in me.say("say three")
        me.see("no longer sees the first [12]")
        assert me.leave() == 0
        assert me.asked()[-1][-1] == {"role": "user", "content": "say three"}
        assert len(me.asked()[-1]) <= 3


def test_an_answer_that_came_in_full_is_stopped_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a complete answer is still being drawn drops the turn, as the note says."""

    async def interrupted(*arguments: Any, **options: Any) -> None:
        await show_turn(*arguments, **options)
        raise asyncio.CancelledError

    async def main() -> None:
        async with FakeServer() as server, Client(api_base=server.url, model="m") as client:
            server.reply("Sunlight.")
            state = Repl(client.chat.session(), mock.Mock(), [], None)
            monkeypatch.setattr("openaiasync.cli.repl.show_turn", interrupted)
            with pytest.raises(asyncio.CancelledError):
                await state.ask("Why?")
            assert state.session.messages == []
            assert state.failed == {"text": "Why?", "images": []}

    asyncio.run(main())


def test_a_model_is_checked() -> None:
    """/model takes only a model that the server lists, and names the nearest; an exclamation mark takes any."""
    with seat() as me:
        said = " ".join(me.say("/model demo-chatt").split())
        assert "the server does not list demo-chatt; did you mean demo-chat?" in said
        assert me.say("/model") == "Model: demo-chat"
        assert me.say("/model demo-complete") == "Model: demo-complete"
        assert "it lists demo-chat, " in me.say("/model zzzzz")
        assert me.say("/model zzzzz!") == "Model: zzzzz"
        assert me.leave() == 0


def test_a_model_cannot_be_checked() -> None:
    """A server that lists nothing, or does not list its models at all, gets any name; tags may be left out."""
    listings: list[Any] = [
        (200, json.dumps({"object": "list", "data": [{"id": "llama3:latest", "object": "model"}]}).encode()),
        (200, b'{"object": "list", "data": []}'),
        refused("not here", 404),
    ]

    with seat(answer=lambda path, body: listings[0] if path.endswith("/models") else None) as me:
        assert me.say("/model llama3") == "Model: llama3"
        assert "does not list llama" in me.say("/model llama")
        listings.pop(0)
        assert me.say("/model llama") == "Model: llama"
        listings.pop(0)
        assert "was not checked" in me.say("/model other")
        assert me.say("/model") == "Model: other"
        assert me.leave() == 0
