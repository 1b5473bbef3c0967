"""A conversation on a terminal: read a line, run a command or ask the model, show the answer; and the commands."""

from __future__ import annotations

import asyncio
import difflib
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import OpenAIError
from ..lazy import resolve_annotations
from .arguments import add_tools, image_at
from .chat_log import chat_log_for, file_names, resumed_for
from .console import CommandError, Exit, complain, note, out
from .editor import edited_text
from .key_store import same_server
from .model_aliases import resolve_alias
from .prompt import LinePrompt, prompt_for
from .render import note_usage, show_turn
from .session_store import SessionStore, names, open_session, path_of, questions, unnamed_path

if TYPE_CHECKING:
    from ..chat.session import ChatSession
    from ..client import Client
    from .arguments import ServerOptions
    from .chat_log import ChatLog
    from .chat_options import ChatOptions
    from .fragments import Prompt

__all__ = ["COMMANDS", "Command", "Repl", "converse", "execute"]

_OFF = "off"
_COMMAND = re.compile(r"(/[a-zA-Z]+|!edit)(?:\s+(.*))?", re.DOTALL)  # a path such as /etc/hosts is not a command
_NARROW = 60  # columns of a terminal below which /help puts texts below the commands
_MODELS = 8  # names of models that an error lists
_SHOWN = 60  # characters of a question or an image that are shown


class Command(NamedTuple):
    """A command: its name with the slash, its argument for /help, its help, its function."""

    name: str
    argument: str
    help: str
    run: Callable[[Repl, str], Awaitable[None]]


async def execute(state: Repl, typed: str) -> None:
    """Run a command, or ask the model anything else. Raises `CommandError` for a wrong command, and what it raises."""
    match = _COMMAND.fullmatch(typed)
    if match is None:
        await state.ask(typed)
        return
    name, argument = match[1].lower().replace("!", "/"), (match[2] or "").strip()
    command = _BY_NAME.get(name)
    if command is None:
        near = difflib.get_close_matches(name, _BY_NAME, 1, 0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        raise CommandError(f"there is no command {name}; {meant}/help lists them")
    if argument and not command.argument:
        raise CommandError(f"{name} takes no argument")
    await command.run(state, argument)


# ---------------------------------------------------------------- turns


async def _undo(state: Repl, argument: str) -> None:
    count = int(argument) if argument.isdecimal() and int(argument) else 1 if not argument else 0
    if not count:
        raise CommandError(f"/undo takes a number of questions, at least 1, not {argument!r}")
    try:
        gone = state.session.undo(count)
    except IndexError:
        raise CommandError("there is no question to take back" if count == 1 else "there are fewer questions") from None
    questions_undone = [_words(message.get("content")) for message in gone if message.get("role") == "user"]
    note(f"Taken back: {'; '.join(map(_quoted, questions_undone))}")


async def _retry(state: Repl, argument: str) -> None:
    if state.failed is not None:
        await state.take(state.failed)
        return
    positions = [index for index, message in enumerate(state.session.messages) if message.get("role") == "user"]
    if not positions:
        raise CommandError("there is no question to ask again")
    await state.take({"at": positions[-1]})


def _words(content: object) -> str:
    """Return the text of a message."""
    from ..core.model.mixins import text_of

    return text_of(content)


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line if len(line) <= _SHOWN else f'{line[: _SHOWN - 1]}…'}”"


# ---------------------------------------------------------------- sessions


def _file_of(given: str) -> Path:
    """Return the path if it looks like one, otherwise the file of the session with this name."""
    if os.sep in given or given.startswith("~") or given.endswith((".jsonl", ".md")):
        return Path(given).expanduser()
    return path_of(given)


async def _save(state: Repl, argument: str) -> None:
    before = state.session.path
    if not argument:
        if before is None:
            raise CommandError("this conversation has no name yet; give it one with /save NAME")
        note(f"Every answer is saved at once to {before}")
        return
    path = _file_of(argument)
    if path.suffix == ".md":
        _export(state, path)
        return
    if path != before and path.exists():
        raise CommandError(f"{argument} exists; continue it with /load, or use another name")
    state.store.release(state.session)
    state.session.save(path, replace=False)
    state.store.path = path
    if before is not None and before != path and before.name.startswith("unnamed-"):
        before.unlink(missing_ok=True)
    note(f"Saved to {path}; every answer will be saved there from now on.")


def _export(state: Repl, path: Path) -> None:
    from ..storage.atomic import AtomicFile

    if path.exists():
        raise CommandError(f"{path} exists; use another name")
    file = AtomicFile.open(path)
    try:
        file.write(state.session.to_markdown().encode("utf-8", "replace"))
        file.commit(exclusive=True)
    except FileExistsError:
        raise CommandError(f"{path} exists; use another name") from None
    finally:
        file.discard()
    note(f"Written to {path} as Markdown.")


async def _load(state: Repl, argument: str) -> None:
    if not argument:
        known = names()
        note(f"Sessions, the last used first: {', '.join(known)}" if known else "There are no saved sessions.")
        return
    path = _file_of(argument)
    if not path.exists():
        raise CommandError(f"there is no session {argument}; /load lists them")
    if state.session.path is not None and path.resolve() == state.session.path.resolve():
        raise CommandError(f"{argument} is the current conversation")
    model = state.session.model
    state.store.release(state.session)
    state.session.load(path, append=True)
    state.store.path, state.failed = path, None
    if state.session.model is None:
        state.session.model = model
    note(f"Continuing {argument} with {state.session.model}; questions so far: {questions(state.session)}.")


async def _fork(state: Repl, argument: str) -> None:
    path = _file_of(argument) if argument else unnamed_path() if state.store.path is not None else None
    if path is not None and path.exists():
        raise CommandError(f"{argument} exists; use another name")
    forked, before = state.session.fork(), state.session
    if path is not None and forked.messages:
        forked.save(path, replace=False)
    stays = before.path
    before.close()
    state.session, state.store.path = forked, path
    where = f"; the conversation so far stays in {stays.stem}" if stays is not None else ""
    note(f"Forked{f' to {path.stem}' if path is not None else ''}{where}.")


# ---------------------------------------------------------------- settings


async def _model(state: Repl, argument: str) -> None:
    if argument:
        alias = resolve_alias(argument)
        if alias.base_url is not None and not same_server(alias.base_url, state.base_url):
            raise CommandError(f"{argument} is at {alias.base_url}; start a conversation there with chat -m {argument}")
        await _check_model(state, alias.model)
        state.session.model = alias.model.removesuffix("!")
    note(f"Model: {state.session.model}")


async def _check_model(state: Repl, name: str) -> None:
    """Raise `CommandError` for a model that the server does not list, unless the name ends in an exclamation mark."""
    if state.list_models is None or name.endswith("!"):
        return
    try:
        listed = await state.list_models()
    except OpenAIError:
        note("The server does not list its models; the name was not checked.")
        return
    # Some servers list tags (llama3:latest) and take names without them.
    if listed and not any(one == name or one.startswith(f"{name}:") for one in listed):
        near = difflib.get_close_matches(name, listed, 1, 0.5)
        meant = f"did you mean {near[0]}?" if near else f"it lists {', '.join(listed[:_MODELS])}"
        raise CommandError(f"the server does not list {name}; {meant} (/model {name}! sets it anyway)")


async def _system(state: Repl, argument: str) -> None:
    if argument:
        state.session.system = None if argument == _OFF else argument
    note(f"System prompt: {state.session.system}" if state.session.system else "There is no system prompt.")


async def _tools(state: Repl, argument: str) -> None:
    if argument:
        add_tools(state.session.tool, [argument])
    tools = list(state.session.tools)
    if not tools:
        note("There are no tools; add one with /tools module:function.")
    for tool in tools:
        note(f"{tool.name}: {(tool.description or 'no description').splitlines()[0]}")


async def _image(state: Repl, argument: str) -> None:
    if argument == _OFF:
        state.images.clear()
    elif argument:
        state.images.append(image_at(argument.strip("'\"")))
    names = [image if isinstance(image, str) else "the image from stdin" for image in state.images]
    listed = ", ".join(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…" for name in names)
    note(f"With the next question: {listed}" if listed else "There is no image for the next question.")


async def _edit(state: Repl, argument: str) -> None:
    failed = state.failed.get("text", "") if state.failed is not None else ""
    text = edited_text(argument or str(failed))
    if not text:
        note("The text is empty; nothing was sent.")
        return
    state.remember(text)
    note(f"Asking: {_quoted(text)}")
    await state.ask(text)


async def _usage(state: Repl, argument: str) -> None:
    used, now = state.session.usage, state.session.tokens
    cost = "" if used.cost is None else f"; cost: {used.cost:.6g}"
    about = "; partly estimated" if used.estimated else ""
    note(
        f"Requests: {used.requests}; tokens sent: {used.prompt_tokens:,} ({used.cached_tokens:,} from the server's "
        f"cache), received: {used.completion_tokens:,} ({used.reasoning_tokens:,} of reasoning){about}{cost}. "
        f"The conversation has {now.tokens:,} tokens (counted by: {now.source})."
    )


# ---------------------------------------------------------------- help and end


async def _help(state: Repl, argument: str) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    rows = [(f"{command.name} {command.argument}".rstrip(), command.help) for command in COMMANDS]
    rows.append(("Alt-Enter", "A line break in the question; pasted line breaks are kept."))
    rows.append(("Ctrl-C, Ctrl-D", "Stop the answer; end the conversation."))
    console = out()
    if console.width < _NARROW:
        for name, text in rows:
            console.print(Text(name))
            console.print(Padding(Text(text), (0, 0, 0, 4), expand=False))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


async def _exit(state: Repl, argument: str) -> None:
    state.ended = True


COMMANDS = (
    Command("/undo", "[NUMBER]", "Take back the last question and its answer, or the last NUMBER.", _undo),
    Command("/retry", "", "Ask the last question again.", _retry),
    Command("/fork", "[NAME]", "Continue in a copy; the conversation so far stays unchanged.", _fork),
    Command("/save", "[NAME|PATH]", "Save the conversation under a name, in a file, or as Markdown (.md).", _save),
    Command("/load", "[NAME|PATH]", "Continue another conversation; without a name, list them.", _load),
    Command("/model", "[NAME]", "Show the model, or change it.", _model),
    Command("/system", "[TEXT|off]", "Show the system prompt, or change it.", _system),
    Command("/tools", "[MODULE:FUNCTION]", "List the tools that the model may call, or add one.", _tools),
    Command("/image", "[PATH|URL|off]", "Send an image with the next question.", _image),
    Command("/edit", "[TEXT]", "Write the question in your editor ($VISUAL or $EDITOR); also !edit.", _edit),
    Command("/usage", "", "Show how many tokens were used.", _usage),
    Command("/help", "", "List the commands.", _help),
    Command("/exit", "", "End the conversation.", _exit),
)
_BY_NAME = {command.name: command for command in COMMANDS}


_EXPECTED = (OpenAIError, CommandError, OSError, ValueError)


class Repl:
    """The state of a conversation on a terminal, which commands change."""

    def __init__(
        self,
        session: ChatSession,
        store: SessionStore,
        images: Sequence[str | bytes] = (),
        schema: dict[str, Any] | None = None,
        *,
        audio: Sequence[str | bytes] = (),
        settings: Mapping[str, Any] | None = None,
        stream: bool = True,
        usage: bool = False,
        log: ChatLog | None = None,
        base_url: str = "",
        list_models: Callable[[], Awaitable[list[str]]] | None = None,
    ) -> None:
        self.session = session
        self.store = store
        self.images: list[Any] = list(images)
        """Images for the next question."""
        self.audio: list[Any] = list(audio)
        """Sounds for the next question."""
        self.schema = schema
        self.settings: dict[str, Any] = dict(settings or {})
        """Arguments of every turn: parameters of the API, and the hook that approves calls of tools."""
        self.stream = stream
        self.usage = usage
        self.log = log
        self.base_url = base_url
        self.list_models = list_models
        """Returns the names of the server's models, to check those that are typed."""
        self.remember: Callable[[str], object] = bool
        """Adds a question that was not typed at the prompt to the history of the arrow keys."""
        self.failed: dict[str, Any] | None = None
        """The last question if it was not answered, for /retry."""
        self.ended = False

    async def ask(self, text: str) -> None:
        """Ask a question, with the images and sounds for it. Raises the errors of the turn."""
        turn: dict[str, Any] = {"text": text, "images": list(self.images)}
        await self.take({**turn, "audio": list(self.audio)} if self.audio else turn)

    async def take(self, turn: dict[str, Any]) -> None:
        """Take a turn with the arguments of `session.stream`, and save it."""
        self.failed = turn
        before = questions(self.session)
        if self.log is not None:
            self.log.begin()
        try:
            reply = await show_turn(self.session, {**self.settings, **turn}, self.schema, stream=self.stream)
        except asyncio.CancelledError:
            # Ctrl-C while an answer is shown that has already come in full: the user stopped it all the same.
            if questions(self.session) > before:
                self.session.undo()
            raise
        self.failed = None
        files = file_names([*self.images, *self.audio])
        self.images.clear()
        self.audio.clear()
        if self.usage:
            note_usage(reply.usage)
        self.store.keep(self.session)
        if self.log is not None:
            self.log.add(self.session, reply, self.settings, files=files)


def converse(
    server: ServerOptions,
    options: ChatOptions,
    prompt: Prompt,
    settings: Mapping[str, Any],
    schema: dict[str, Any] | None,
) -> int:
    """Hold a conversation. The event loop runs during answers only, so that the prompt has the terminal to itself.

    The images and sounds of `prompt` go with the first question.
    """
    with asyncio.Runner() as runner:
        client = server.client()
        try:
            resumed = resumed_for(options)
            store = _store_for(options, resumed.path)
            state = Repl(
                runner.run(open_session(client, options, store, resumed)),
                store,
                prompt.images,
                schema,
                audio=prompt.audio,
                settings=settings,
                stream=not options.no_stream,
                usage=options.usage,
                log=chat_log_for(server, client, options, resumed),
                base_url=client.base_url,
                list_models=lambda: _listed(client),
            )
            try:
                _greet(state, client)
                _loop(runner, state)
            finally:
                store.release(state.session)
                state.session.close()
        finally:
            runner.run(client.aclose())
    return Exit.OK


def _store_for(options: ChatOptions, resumed: Path | None) -> SessionStore:
    """Return the store of the conversation. One without a name goes on unsaved if there is no folder for it."""
    try:
        return SessionStore.of(options.session, resumed, unnamed=not options.forget)
    except CommandError as error:
        if options.session is not None:
            raise
        note(f"This conversation will not be saved: {error}.")
        return SessionStore(None)


async def _listed(client: Client) -> list[str]:
    return [model.id async for model in client.models()]


def _greet(state: Repl, client: Client) -> None:
    base = client.base_url.rstrip("/")
    note(
        f'{state.session.model} at {base}. Ctrl-C stops an answer, Ctrl-D or "exit" ends the conversation, '
        "/help lists the commands."
    )
    if count := questions(state.session):
        note(f"Continuing {state.store.name}; questions so far: {count}.")
    if state.session.missing_tools:
        note(f"Tools that the session had and this command lacks: {', '.join(state.session.missing_tools)}")


def _loop(runner: asyncio.Runner, state: Repl) -> None:
    prompt = prompt_for([command.name for command in COMMANDS])
    _remember(prompt, state.session)
    state.remember = prompt.remember
    while not state.ended:
        typed = prompt.read()
        if typed is None or typed == "exit":
            return
        if typed:
            _turn(runner, state, typed)


def _turn(runner: asyncio.Runner, state: Repl, typed: str) -> None:
    """Handle one line. Ctrl-C ends the answer and an error ends the turn, but neither ends the conversation."""
    before = questions(state.session)
    try:
        runner.run(execute(state, typed))
    except KeyboardInterrupt:
        if questions(state.session) > before:  # it came when the turn had just ended
            note("The answer was complete and is kept. /undo takes it back.")
        elif state.failed is not None:
            note("Stopped; this question and its answer are not kept. /retry asks again.")
        else:
            note("Stopped.")
    except _EXPECTED as error:
        complain(str(error))


def _remember(prompt: LinePrompt, session: ChatSession) -> None:
    """Add the questions of the session so far to the history of the arrow keys."""
    for message in session.messages:
        content = message.get("content")
        if message.get("role") == "user" and isinstance(content, str):
            prompt.remember(content)


resolve_annotations(__name__)
