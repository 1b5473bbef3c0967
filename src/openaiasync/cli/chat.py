"""`openaiasync chat`: one question, or a conversation on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from ..errors import OpenAIError
from .connect import choose_model
from .output import CommandError, Exit, complain, note, write, write_bytes

if TYPE_CHECKING:
    from ..client import Client
    from ..types.chat import ChatCompletion
    from .connect import Connect

__all__ = ["Conversation", "run_chat"]

_PROMPT = "> "
_ENDINGS = {
    "length": "The answer was cut at its length limit.",
    "content_filter": "The answer was cut by the server's content filter.",
    "tool_calls": "The model asked for a tool, and there is none here.",
}


def run_chat(connect: Connect, model: str | None, question: str | None, system: str | None, as_json: bool) -> int:
    """Ask once if there is a question (argument, pipe, or both), else talk."""
    asked = _question(question)
    if asked is not None:
        return asyncio.run(_ask_once(connect, model, asked, system, as_json))
    if as_json:
        raise CommandError("--json needs a question, as an argument or through a pipe")
    return _talk(connect, model, system)


def _question(argument: str | None) -> str | None:
    """The argument and what is piped in, joined by a blank line; `None` if a terminal is there to ask on."""
    piped = ""
    has_terminal = sys.stdin is not None and sys.stdin.isatty()
    if sys.stdin is not None and not has_terminal:
        try:
            piped = sys.stdin.buffer.read().decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise CommandError(f"stdin is not UTF-8 text: {error.reason} at byte {error.start}") from None
    parts = [part for part in (argument, piped) if part and part.strip()]
    if parts:
        return "\n\n".join(parts)
    if argument is None and has_terminal:
        return None
    raise CommandError("the question is empty")


async def _ask_once(connect: Connect, model: str | None, question: str, system: str | None, as_json: bool) -> int:
    async with connect.client() as client:
        conversation = Conversation(client, await choose_model(client, model, "chat"), system)
        if as_json:
            answer = await client.chat(conversation.with_question(question), model=conversation.model)
            write_bytes(answer.to_json().encode("utf-8", "backslashreplace") + b"\n")
        else:
            await conversation.say(question)
    return Exit.OK


class Conversation:
    """What was said so far, and with whom. A turn that fails or is stopped leaves it as it was."""

    def __init__(self, client: Client, model: str, system: str | None = None) -> None:
        self.client = client
        self.model = model
        self.messages: list[Any] = [{"role": "system", "content": system}] if system else []

    def with_question(self, question: str) -> list[Any]:
        """The messages so far and the user's next one."""
        return [*self.messages, {"role": "user", "content": question}]

    async def say(self, question: str) -> ChatCompletion:
        """Ask, write the answer to stdout as it comes, and remember both. Raises what the call raises."""
        messages = self.with_question(question)
        at_line_start = True
        try:
            async with self.client.chat.stream(messages, model=self.model) as stream:
                async for chunk in stream:
                    if chunk.text:
                        write(chunk.text)
                        at_line_start = chunk.text.endswith("\n")
                answer = await stream.final()
        finally:
            if not at_line_start:
                write("\n")
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        _note_ending(answer)
        return answer


def _note_ending(answer: ChatCompletion) -> None:
    """Say why there may be less to read than expected."""
    ending = answer.choices[0].finish_reason if answer.choices else None
    refusal = getattr(answer.message, "refusal", None)
    if refusal:
        note(f"The model refused: {refusal}")
    elif ending in _ENDINGS:
        note(_ENDINGS[ending])
    elif not answer.text:
        note("The answer is empty.")


def _talk(connect: Connect, model: str | None, system: str | None) -> int:
    """A conversation. The event loop runs during answers only, so that the prompt has the terminal for itself."""
    _prepare_terminal()
    with asyncio.Runner() as runner:
        client = connect.client()
        try:
            conversation = Conversation(client, runner.run(choose_model(client, model, "chat")), system)
            note(f'{conversation.model} at {client.base_url}. Ctrl-C stops an answer, Ctrl-D or "exit" ends the talk.')
            while (question := _read_question()) is not None:
                if question:
                    _turn(runner, conversation, question)
        finally:
            runner.run(client.aclose())
    return Exit.OK


def _prepare_terminal() -> None:
    """Line editing and history with the arrow keys, where Python has them. Bytes that are no text end nothing."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport]  # its import is its effect
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _read_question() -> str | None:
    """The next question, `""` for none yet, `None` for the end. Ctrl-C drops the line being typed."""
    prompt = _PROMPT
    if not sys.stdout.isatty():
        sys.stderr.write(_PROMPT)  # stdout is data
        sys.stderr.flush()
        prompt = ""
    try:
        question = input(prompt).strip()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return ""
    except EOFError:
        sys.stderr.write("\n")
        return None
    return None if question == "exit" else question


def _turn(runner: asyncio.Runner, conversation: Conversation, question: str) -> None:
    """One question and its answer. Ctrl-C ends the answer, an error this turn, neither the conversation."""
    try:
        runner.run(conversation.say(question))
    except KeyboardInterrupt:
        note("Stopped; this question and its answer are forgotten.")
    except OpenAIError as error:
        complain(str(error))
