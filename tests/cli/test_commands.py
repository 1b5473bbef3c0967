"""The commands of a conversation, against the demo server: what each does to the session, its file and its requests."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import Client, OpenAIError
from openaiasync.cli import session_store as state
from openaiasync.cli.chat_log import resumed_for
from openaiasync.cli.chat_options import ChatOptions
from openaiasync.cli.console import CommandError
from openaiasync.cli.repl import COMMANDS, Repl, execute
from openaiasync.cli.session_store import SessionStore, open_session

from .command import Answer, Spy, refused, spied
from .seat import nobody
from .test_chat import chunk, streamed

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


class Person:
    """Types lines into a conversation and returns its output, without a terminal."""

    def __init__(self, talk: Repl, spy: Spy) -> None:
        self.talk = talk
        self.spy = spy

    async def types(self, line: str) -> str:
        """Run a line and return what it prints on stdout and stderr."""
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            await execute(self.talk, line)
        return said.getvalue().strip()

    async def refused(self, line: str, words: str) -> None:
        """Run a wrong command: its error has these words, and the conversation is unchanged."""
        before = (self.talk.session.messages, self.talk.store.path, list(self.talk.images))
        with pytest.raises(CommandError, match=words):
            await self.types(line)
        assert (self.talk.session.messages, self.talk.store.path, list(self.talk.images)) == before

    @property
    def said(self) -> list[str]:
        """The texts of the conversation."""
        return [str(message["content"]) for message in self.talk.session.messages]

    def asked(self) -> list[str]:
        """The last text of every request that the server saw."""
        return [body["messages"][-1]["content"] for body in self.spy.bodies("/chat/completions")]


def person(
    act: Callable[[Person], Awaitable[None]], *, answer: Callable[[str, Any], Answer] = nobody, **wanted: Any
) -> None:
    """Hold a conversation with the demo server."""

    async def main(url: str, spy: Spy) -> None:
        async with Client(api_base=url, max_retries=0) as client:
            options = ChatOptions(**{"model": "demo-chat", **wanted})
            resumed = resumed_for(options)
            shelf = SessionStore.of(options.session, resumed.path, unnamed=not options.forget)
            talk = Repl(await open_session(client, options, shelf, resumed), shelf, [], None)
            try:
                await act(Person(talk, spy))
            finally:
                talk.session.close()

    with spied(answer) as (server, spy):
        run(main(server.base_url, spy))


def test_undo() -> None:
    """/undo removes the named number of questions with their answers; later requests do not have them."""

    async def act(me: Person) -> None:
        await me.refused("/undo", "no question to take back")
        for word in ("one", "two", "three"):
            assert await me.types(f"say {word}") == word
        assert await me.types("/undo") == "Taken back: “say three”"
        await me.refused("/undo 3", "fewer questions")
        await me.refused("/undo none", "a number")
        await me.refused("/undo 0", "a number")
        assert await me.types("/undo 2") == "Taken back: “say one”; “say two”"
        await me.types("say four")
        assert me.said == ["say four", "four"]
        assert me.spy.bodies("/chat/completions")[-1]["messages"] == [{"role": "user", "content": "say four"}]

    person(act)


def test_retry() -> None:
    """/retry asks the last question again and replaces its answer; a failed question keeps its images."""
    failing = [False]

    def answer(path: str, body: Any) -> Answer:
        return refused("not now") if failing[0] else None

    async def act(me: Person) -> None:
        await me.refused("/retry", "no question to ask again")
        await me.types("say one")
        await me.types("say two")
        assert await me.types("/retry") == "two"
        assert me.asked() == ["say one", "say two", "say two"]
        assert me.said == ["say one", "one", "say two", "two"]
        failing[0] = True
        for line in ("/retry", "say three", "/retry"):
            with pytest.raises(OpenAIError, match="not now"):
                await me.types(line)
            assert me.said == ["say one", "one", "say two", "two"]
        failing[0] = False
        assert await me.types("/retry") == "three"
        assert me.said[-2:] == ["say three", "three"]

    person(act, answer=answer)


def test_fork(state_folder: Path) -> None:
    """/fork continues in a copy with another file; the conversation before is unchanged."""

    async def act(me: Person) -> None:
        await me.types("say one")
        assert "stays in first" in await me.types("/fork second")
        await me.types("say two")
        assert me.talk.store.path == state.path_of("second")
        await me.refused("/fork first", "exists")
        await me.refused("/fork a\\b", "backslash")
        await me.types("/load first")
        assert me.said == ["say one", "one"]
        await me.types("/load second")
        assert me.said == ["say one", "one", "say two", "two"]
        await me.types("/fork")
        assert me.talk.store.name.startswith("unnamed-")

    person(act, session="first")


def test_the_last_conversation_goes_on() -> None:
    """A conversation without a name is saved, too, and `--continue` finds it."""

    async def first(me: Person) -> None:
        await me.types("say one")

    async def second(me: Person) -> None:
        assert me.said == ["say one", "one"]
        await me.types("say two")

    person(first)
    person(second, go_on=True, model=None)
    person(first)
    assert len(state.names()) == 2


def test_a_fork_of_what_is_not_kept() -> None:
    """The fork of an unsaved conversation is not saved."""

    async def act(me: Person) -> None:
        await me.types("say one")
        assert await me.types("/fork") == "Forked."
        await me.types("say two")
        assert me.talk.session.path is None

    person(act, forget=True)
    assert state.names() == []


def test_save(tmp_path: Path, state_folder: Path) -> None:
    """/save takes a name, a path, or a Markdown file; a new name replaces the unnamed file."""

    async def act(me: Person) -> None:
        await me.refused("/save", "no name yet")
        await me.types("say one")
        assert [name.startswith("unnamed-") for name in state.names()] == [True]
        await me.refused("/save a\\b", "backslash")
        await me.types("/save mine")
        await me.types("say two")
        assert state.names() == ["mine"]
        assert str(state.path_of("mine")) in (await me.types("/save")).replace("\n", "")
        text = tmp_path / "talk.md"
        await me.types(f"/save {text}")
        assert "say two" in text.read_text(encoding="utf-8")
        await me.refused(f"/save {text}", "exists")
        await me.types(f"/save {tmp_path / 'other.jsonl'}")
        await me.types("say three")
        assert "say three" in (tmp_path / "other.jsonl").read_text(encoding="utf-8")
        assert "say three" not in state.path_of("mine").read_text(encoding="utf-8")
        await me.refused("/save mine", "exists")
        with pytest.raises(OpenAIError, match=r"cannot write .*none"):
            await me.types(f"/save {tmp_path / 'none' / 'x.jsonl'}")
        assert me.talk.session.path == tmp_path / "other.jsonl"

    person(act)


def test_load(tmp_path: Path, state_folder: Path) -> None:
    """Load another session by name or path in place of this one; an unknown name changes nothing."""

    async def make(me: Person) -> None:
        await me.types("say one")

    person(make, session="first", system="Be brief.")
    (tmp_path / "no.jsonl").write_text("{}\n", encoding="utf-8")

    async def act(me: Person) -> None:
        assert await me.types("/load") == "Sessions, the last used first: first"
        await me.types("say other")
        await me.refused("/load none", "no session none")
        with pytest.raises(OpenAIError, match="is not a saved session"):
            await me.types(f"/load {tmp_path / 'no.jsonl'}")
        assert me.said == ["say other", "other"]
        assert "questions so far: 1." in await me.types("/load first")
        assert me.said == ["Be brief.", "say one", "one"]
        await me.refused("/load first", "is the current conversation")
        await me.types("say two")
        assert "say two" in state.path_of("first").read_text(encoding="utf-8")

    person(act)


def test_a_session_in_use() -> None:
    """Two conversations cannot write to one file: the second gets an error and keeps its own file."""

    async def first(me: Person) -> None:
        await me.types("say one")

        async def second(other: Person) -> None:
            await other.types("say mine")
            with pytest.raises(OpenAIError, match="use"):
                await other.types("/load shared")
            assert other.said == ["say mine", "mine"]

        await asyncio.to_thread(person, second)

    person(first, session="shared")


def test_model_and_system() -> None:
    """/model and /system show and change their values from the next question on."""

    async def act(me: Person) -> None:
        assert await me.types("/model") == "Model: demo-chat"
        assert await me.types("/system") == "There is no system prompt."
        assert await me.types("/system Be brief.\nVery.") == "System prompt: Be brief. Very."
        assert await me.types("/model demo-complete") == "Model: demo-complete"
        await me.types("/model demo-chat")
        await me.types("say one")
        assert await me.types("/system off") == "There is no system prompt."
        await me.types("say two")
        one, two = (body["messages"] for body in me.spy.bodies("/chat/completions"))
        assert one[0] == {"role": "system", "content": "Be brief.\nVery."}
        assert two[0] == {"role": "user", "content": "say one"}

    person(act)


def test_images(tmp_path: Path) -> None:
    """Images are sent with the next question only; a file that is not an image is refused."""
    (tmp_path / "a b.png").write_bytes(PNG)
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")

    async def act(me: Person) -> None:
        await me.refused(f"/image {tmp_path / 'text.png'}", "is not an image")
        await me.refused(f"/image {tmp_path / 'none.png'}", "cannot read")
        assert "a b." in (await me.types(f"/image '{tmp_path / 'a b.png'}'")).replace("\n", " ")
        await me.types("/image https://example.org/x.png")
        with pytest.raises(OpenAIError, match="not now"):
            await me.types("What is bad here?")
        await me.types("What is it?")
        await me.types("say next")
        assert await me.types("/image") == "There is no image for the next question."
        await me.types("/image https://example.org/x.png")
        assert await me.types("/image off") == "There is no image for the next question."
        _, seen, after = me.spy.bodies("/chat/completions")
        text, *urls = seen["messages"][0]["content"]
        assert text == {"type": "text", "text": "What is it?"}
        assert [part["image_url"]["url"][:22] for part in urls] == ["data:image/png;base64,", "https://example.org/x."]
        assert after["messages"][-1]["content"] == "say next"

    def answer(path: str, body: Any) -> Answer:
        if "bad" in str(body):
            return refused("not now")
        return streamed(chunk("A nice image.", "stop"), b"data: [DONE]\n\n")

    person(act, answer=answer)


def test_usage() -> None:
    """/usage shows the tokens that the server counted."""

    async def act(me: Person) -> None:
        assert (await me.types("/usage")).startswith("Requests: 0; tokens sent: 0 ")
        await me.types("say one two three")
        await me.types("say four")
        told = " ".join((await me.types("/usage")).split())
        used = me.talk.session.usage
        assert used.prompt_tokens > 0
        assert told.startswith(f"Requests: 2; tokens sent: {used.prompt_tokens} (")
        assert f"received: {used.completion_tokens} (" in told
        assert "tokens (counted by: server)" in told

    person(act)


@pytest.mark.parametrize("columns", [40, 100])
def test_help(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """/help lists every command with its argument; on a narrow terminal the texts are below the commands."""

    async def act(me: Person) -> None:
        told = await me.types("/help")
        for command in COMMANDS:
            assert f"{command.name} {command.argument}".rstrip() in told
            assert command.help in " ".join(told.split())
        assert max(map(len, told.splitlines())) <= columns
        assert ("/retry" in told.splitlines()) == (columns < 60)

    monkeypatch.setenv("COLUMNS", str(columns))
    person(act)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/udno", "no command /udno; did you mean /undo"),
        ("/Hlep me", "did you mean /help"),
        ("/xyzzyx", "no command /xyzzyx; /help lists"),
        ("/usage now", "/usage takes no argument"),
    ],
)
def test_wrong_commands(line: str, words: str) -> None:
    """An unknown command names the nearest one and sends nothing."""

    async def act(me: Person) -> None:
        await me.refused(line, words)
        assert me.spy.requests == []

    person(act)


@pytest.mark.parametrize("line", ["/etc/passwd", "/2", "/ undo", "what does /undo do?"])
def test_lines_that_are_not_commands(line: str) -> None:
    """A path, a number and a slash in a sentence are questions."""

    async def act(me: Person) -> None:
        await me.types(line)
        assert me.asked() == [line]

    person(act)


def test_exit() -> None:
    """/exit ends the conversation, in any case of letters."""

    async def act(me: Person) -> None:
        await me.types("say one")
        assert not me.talk.ended
        await me.types("/EXIT")
        assert me.talk.ended

    person(act)
