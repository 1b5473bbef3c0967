"""A conversation on a terminal: read, carry out or ask, show, again; and its commands, which begin with a slash."""

from __future__ import annotations

import asyncio
import difflib
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import OpenAIError
from .arguments import add_tools, image_at, schema_in
from .console import CommandError, Exit, complain, note, out
from .prompt import LinePrompt, prompt_for
from .render import say
from .session_store import ChatOptions, SessionStore, names, opened, path_of, questions, unnamed_path

if TYPE_CHECKING:
    from ..chat.session import ChatSession
    from ..client import Client
    from .arguments import Connect

__all__ = ["COMMANDS", "Command", "Repl", "obey", "talk"]

_OFF = "off"
_COMMAND = re.compile(r"(/[a-zA-Z]+)(?:\s+(.*))?", re.DOTALL)  # a path such as /etc/hosts is none
_SHOWN = 60  # characters of a question that is talked of


class Command(NamedTuple):
    """A command: its word with the slash, what may follow, what it does."""

    name: str
    argument: str
    help: str
    run: Callable[[Repl, str], Awaitable[None]]


async def obey(state: Repl, typed: str) -> None:
    """Carry out a command, or ask the model what is none. Raises what that raises, `CommandError` for a wrong one."""
    match = _COMMAND.fullmatch(typed)
    if match is None:
        await state.ask(typed)
        return
    name, argument = match[1].lower(), (match[2] or "").strip()
    command = _BY_NAME.get(name)
    if command is None:
        near = difflib.get_close_matches(name, _BY_NAME, 1, 0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        raise CommandError(f"there is no command {name}; {meant}/help lists them")
    if argument and not command.argument:
        raise CommandError(f"{name} takes nothing after it")
    await command.run(state, argument)


# ---------------------------------------------------------------- turns


async def _undo(state: Repl, argument: str) -> None:
    count = int(argument) if argument.isdecimal() and int(argument) else 1 if not argument else 0
    if not count:
        raise CommandError(f"/undo takes a number of questions, from 1 up, not {argument!r}")
    try:
        gone = state.session.undo(count)
    except IndexError:
        raise CommandError(
            "there is nothing to take back" if count == 1 else "there are not so many questions"
        ) from None
    asked = [_words(message.get("content")) for message in gone if message.get("role") == "user"]
    note(f"Taken back: {'; '.join(map(_quoted, asked))}")


async def _retry(state: Repl, argument: str) -> None:
    if state.failed is not None:
        await state.take(state.failed)
        return
    asked = [index for index, message in enumerate(state.session.messages) if message.get("role") == "user"]
    if not asked:
        raise CommandError("there is nothing to ask again")
    await state.take({"at": asked[-1]})


def _words(content: object) -> str:
    """The text of a message."""
    from ..core.model.mixins import text_of

    return text_of(content)


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line if len(line) <= _SHOWN else f'{line[: _SHOWN - 1]}…'}”"


# ---------------------------------------------------------------- sessions


def _file_of(given: str) -> Path:
    """A path if it looks like one, else the file of the session of this name."""
    if os.sep in given or given.startswith("~") or given.endswith((".jsonl", ".md")):
        return Path(given).expanduser()
    return path_of(given)


async def _save(state: Repl, argument: str) -> None:
    before = state.session.path
    if not argument:
        if before is None:
            raise CommandError("this conversation has no name yet; /save NAME gives it one")
        note(f"Every answer is saved at once, to {before}")
        return
    path = _file_of(argument)
    if path.suffix == ".md":
        _export(state, path)
        return
    if path != before and path.exists():
        raise CommandError(f"{argument} exists; /load goes on with it, another name makes a new one")
    state.shelf.release(state.session)
    state.session.save(path, replace=False)
    state.shelf.path = path
    if before is not None and before != path and before.name.startswith("unnamed-"):
        before.unlink(missing_ok=True)
    note(f"Saved to {path}, and so will be every answer from now on.")


def _export(state: Repl, path: Path) -> None:
    from ..storage.atomic import AtomicFile

    if path.exists():
        raise CommandError(f"{path} exists; name another file")
    file = AtomicFile.open(path)
    try:
        file.write(state.session.to_markdown().encode("utf-8", "replace"))
        file.commit(exclusive=True)
    except FileExistsError:
        raise CommandError(f"{path} exists; name another file") from None
    finally:
        file.discard()
    note(f"Written to {path}, to be read by people.")


async def _load(state: Repl, argument: str) -> None:
    if not argument:
        known = names()
        note(f"Sessions, the last used first: {', '.join(known)}" if known else "There are no saved sessions.")
        return
    path = _file_of(argument)
    if not path.exists():
        raise CommandError(f"there is no session {argument}; /load lists those that are")
    if state.session.path is not None and path.resolve() == state.session.path.resolve():
        raise CommandError(f"{argument} is the conversation that is going on")
    model = state.session.model
    state.shelf.release(state.session)
    state.session.load(path, append=True)
    state.shelf.path, state.failed = path, None
    if state.session.model is None:
        state.session.model = model
    note(f"Going on with {argument}, {state.session.model}; questions so far: {questions(state.session)}.")


async def _fork(state: Repl, argument: str) -> None:
    path = _file_of(argument) if argument else unnamed_path() if state.shelf.path is not None else None
    if path is not None and path.exists():
        raise CommandError(f"{argument} exists; another name makes a new one")
    forked, before = state.session.fork(), state.session
    if path is not None and forked.messages:
        forked.save(path, replace=False)
    stays = before.path
    before.close()
    state.session, state.shelf.path = forked, path
    where = f"; what was said so far stays in {stays.stem}" if stays is not None else ""
    note(f"Forked{f' to {path.stem}' if path is not None else ''}{where}.")


# ---------------------------------------------------------------- what is asked, and of whom


async def _model(state: Repl, argument: str) -> None:
    if argument:
        state.session.model = argument
    note(f"Model: {state.session.model}")


async def _system(state: Repl, argument: str) -> None:
    if argument:
        state.session.system = None if argument == _OFF else argument
    note(f"System prompt: {state.session.system}" if state.session.system else "There is no system prompt.")


async def _tools(state: Repl, argument: str) -> None:
    if argument:
        add_tools(state.session.tool, [argument])
    tools = list(state.session.tools)
    if not tools:
        note("There are no tools; /tools module:function adds one.")
    for tool in tools:
        note(f"{tool.name}: {(tool.description or 'without description').splitlines()[0]}")


async def _image(state: Repl, argument: str) -> None:
    if argument == _OFF:
        state.images.clear()
    elif argument:
        state.images.append(image_at(argument.strip("'\"")))
    listed = ", ".join(image if len(image) <= _SHOWN else f"{image[:_SHOWN]}…" for image in state.images)
    note(f"With the next question: {listed}" if listed else "No image goes with the next question.")


async def _usage(state: Repl, argument: str) -> None:
    used, now = state.session.usage, state.session.tokens
    cost = "" if used.cost is None else f"; cost: {used.cost:.6g}"
    about = "; estimated where the server did not count" if used.estimated else ""
    note(
        f"Requests: {used.requests}; tokens sent: {used.prompt_tokens:,} ({used.cached_tokens:,} from the server's "
        f"cache), received: {used.completion_tokens:,} ({used.reasoning_tokens:,} of reasoning){about}{cost}. "
        f"The conversation has {now.tokens:,} tokens, by {now.source}."
    )


# ---------------------------------------------------------------- the rest


async def _help(state: Repl, argument: str) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for command in COMMANDS:
        table.add_row(f"{command.name} {command.argument}".rstrip(), command.help)
    table.add_row("Alt-Enter", "A new line in the question; pasted lines stay as they are.")
    table.add_row("Ctrl-C, Ctrl-D", "Stop the answer; end the talk.")
    out().print(table)


async def _exit(state: Repl, argument: str) -> None:
    state.ended = True


COMMANDS = (
    Command("/undo", "[NUMBER]", "Take back the last question and its answer, or the last so many.", _undo),
    Command("/retry", "", "Ask the last question again.", _retry),
    Command("/fork", "[NAME]", "Go on in a copy; the conversation so far stays as it is.", _fork),
    Command("/save", "[NAME|PATH]", "Keep the conversation under a name; in a file; for people, as .md.", _save),
    Command("/load", "[NAME|PATH]", "Go on with another conversation; without a name, list them.", _load),
    Command("/model", "[NAME]", "Say which model answers, or take another.", _model),
    Command("/system", "[TEXT|off]", "Say the system prompt, or give another.", _system),
    Command("/tools", "[MODULE:FUNCTION]", "List the tools that the model may call, or add one.", _tools),
    Command("/image", "[PATH|URL|off]", "Show an image with the next question.", _image),
    Command("/usage", "", "Say how many tokens were used.", _usage),
    Command("/help", "", "List the commands.", _help),
    Command("/exit", "", "End the talk.", _exit),
)
_BY_NAME = {command.name: command for command in COMMANDS}


_EXPECTED = (OpenAIError, CommandError, OSError, ValueError)


class Repl:
    """What a conversation on a terminal is made of; the commands change it."""

    def __init__(
        self, session: ChatSession, shelf: SessionStore, images: list[str], schema: dict[str, Any] | None
    ) -> None:
        self.session = session
        self.shelf = shelf
        self.images = images
        """Images that go with the next question."""
        self.schema = schema
        self.failed: dict[str, Any] | None = None
        """What was asked last, if it has no answer; for /retry."""
        self.ended = False

    async def ask(self, text: str) -> None:
        """Ask a question, with the images that wait for one. Raises what the turn raises."""
        await self.take({"text": text, "images": list(self.images)})

    async def take(self, asked: dict[str, Any]) -> None:
        """Take a turn with what `session.stream` takes, and keep it."""
        self.failed = asked
        await say(self.session, asked, self.schema)
        self.failed = None
        self.images.clear()
        self.shelf.keep(self.session)


def talk(connect: Connect, wanted: ChatOptions) -> int:
    """A conversation. The event loop runs during answers only, so that the prompt has the terminal for itself."""
    images = [image_at(place) for place in wanted.images]
    schema = None if wanted.schema is None else schema_in(wanted.schema)
    with asyncio.Runner() as runner:
        client = connect.client()
        try:
            shelf = SessionStore.of(wanted.session, wanted.go_on, unnamed=not wanted.forget)
            state = Repl(runner.run(opened(client, wanted, shelf)), shelf, images, schema)
            try:
                _greet(state, client)
                _loop(runner, state)
            finally:
                shelf.release(state.session)
                state.session.close()
        finally:
            runner.run(client.aclose())
    return Exit.OK


def _greet(state: Repl, client: Client) -> None:
    base = client.base_url.rstrip("/")
    note(
        f'{state.session.model} at {base}. Ctrl-C stops an answer, Ctrl-D or "exit" ends the talk, '
        "/help lists commands."
    )
    if asked := questions(state.session):
        note(f"Going on with {state.shelf.name}; questions so far: {asked}.")
    if state.session.missing_tools:
        note(f"Tools that it had and this command does not name: {', '.join(state.session.missing_tools)}")


def _loop(runner: asyncio.Runner, state: Repl) -> None:
    prompt = prompt_for([command.name for command in COMMANDS])
    _remember(prompt, state.session)
    while not state.ended:
        typed = prompt.read()
        if typed is None or typed == "exit":
            return
        if typed:
            _turn(runner, state, typed)


def _turn(runner: asyncio.Runner, state: Repl, typed: str) -> None:
    """One line and what it brings. Ctrl-C ends the answer, an error this turn, neither the conversation."""
    try:
        runner.run(obey(state, typed))
    except KeyboardInterrupt:
        note("Stopped; this question and its answer are forgotten. /retry asks again.")
    except _EXPECTED as error:
        complain(str(error))


def _remember(prompt: LinePrompt, session: ChatSession) -> None:
    """Let the arrow keys find what was asked in the session so far."""
    for message in session.messages:
        content = message.get("content")
        if message.get("role") == "user" and isinstance(content, str):
            prompt.remember(content)
