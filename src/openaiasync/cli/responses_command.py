"""`openaiasync responses`: one question to the Responses API."""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from typing import TYPE_CHECKING, Any

from ..core.model.media_types import image_type
from ..engine.attachments import is_url
from ..lazy import resolve_annotations
from ..storage.disk import read_file
from .api_options import api_parameters, extra_body_in
from .arguments import choose_model, image_at
from .call_log import CallLog, LogEntry, log_call, log_path
from .chat_command import question_in
from .chat_log import file_names
from .console import CommandError, Exit, note, write_bytes
from .fragments import LARGEST, Prompt, StandardInput, read_fragments
from .render import note_usage, screen, write_code_block

if TYPE_CHECKING:
    from ..client import Client
    from .arguments import ServerOptions
    from .chat_options import PromptOptions

__all__ = ["run_responses"]

_LOGGED_APART = frozenset({"input", "instructions", "model"})
# Parameters that the command sets itself, and what to use instead.
_FLAGS = {
    "model": "the model is given with --model",
    "input": "the input is the question",
    "instructions": "use --system",
    "previous_response_id": "use --previous",
    "stream": "answers are streamed unless --no-stream is given",
    "background": "a response is waited for; leave it out",
}


def run_responses(
    server: ServerOptions,
    question: str | None,
    previous: str | None,
    images: tuple[str, ...],
    options: PromptOptions,
    *,
    go_on: bool = False,
) -> int:
    """Ask one question and show the answer as it arrives.

    It continues from the response `previous` if that is given, or with `go_on` from the last one in the log.
    """
    if go_on:
        if previous is not None:
            raise CommandError("--continue continues from the last response, --previous from another; use one of them")
        previous = _last_response()
    if options.extract and options.as_json:
        raise CommandError("--extract prints a code block, --json the whole answer; use one of them")
    stdin = StandardInput()
    pictures = [image_at(place, stdin) for place in images]
    fragments = asyncio.run(read_fragments(server, options.fragments, stdin)) if options.fragments else []
    text = question_in(question, stdin, optional=bool(fragments))
    if text is None and not fragments:
        raise CommandError("there is no question; give it as an argument or through a pipe")
    return asyncio.run(_ask(server, Prompt(text or "", fragments, pictures), previous, options))


def _last_response() -> str:
    """Return the id of the last response in the log. Raises `CommandError` for a log without responses."""
    with CallLog.open(log_path()) as log:
        last = log.last("responses")
        found = None if last is None else log.calls(last.id)[-1]["response"]
    if not found:
        raise CommandError("the log has no response to continue from; name one with --previous")
    return str(found)


async def _ask(server: ServerOptions, prompt: Prompt, previous: str | None, options: PromptOptions) -> int:
    params, began = _parameters(prompt, previous, options), time.monotonic()
    async with server.client() as client:
        params["model"] = await choose_model(client, options.model, "chat")
        if options.as_json or options.extract or options.no_stream:
            api: Any = client.responses  # its parameters are a dict, of which the type of the answer depends
            response = await api.create(**params)
            if options.as_json:
                write_bytes(response.to_json().encode("utf-8", "backslashreplace") + b"\n")
            elif options.extract:
                write_code_block(response.output_text)
            else:
                place = screen()
                place.text(response.output_text)
                place.end()
        else:
            response = await _streamed(client, params)
    _note_ending(response)
    if options.usage:
        note_usage(response.usage)
    if not options.no_log:
        log_call(
            LogEntry(
                command="responses",
                prompt=prompt.text,
                answer=response.output_text,
                base_url=client.base_url.rstrip("/"),
                model=params["model"],
                system=options.system,
                options={name: value for name, value in params.items() if name not in _LOGGED_APART},
                usage=None if response.usage is None else response.usage.to_dict(),
                seconds=round(time.monotonic() - began, 3),
                response=response.id,
                fragments=prompt.fragments,
                files=file_names(prompt.images),
            ),
            server.secrets(),
        )
    return Exit.OK


def _parameters(prompt: Prompt, previous: str | None, options: PromptOptions) -> dict[str, Any]:
    from ..endpoints import RESPONSES_CREATE

    params, others = api_parameters(RESPONSES_CREATE, options.option, _FLAGS)
    if body := {**others, **extra_body_in(options.extra_body)}:
        params["extra_body"] = body
    if options.system is not None:
        params["instructions"] = options.system
    if previous is not None:
        params["previous_response_id"] = previous
    params["input"] = prompt.whole
    if prompt.images:
        params["input"] = [{"role": "user", "content": _content(prompt)}]
    return params


def _content(prompt: Prompt) -> list[dict[str, Any]]:
    """Return the text and the pictures of a question as parts of an input message."""
    return [
        {"type": "input_text", "text": prompt.whole},
        *({"type": "input_image", "image_url": _url(image), "detail": "auto"} for image in prompt.images),
    ]


def _url(image: str | bytes) -> str:
    """Return the URL of a picture: as given, or one that holds the picture."""
    if isinstance(image, str):
        if is_url(image):
            return image
        try:
            image = read_file(image, LARGEST)
        except OSError as error:
            raise CommandError(f"cannot read {error.filename}: {error.strerror}") from None
    return f"data:{image_type(image)};base64,{base64.b64encode(image).decode()}"


async def _streamed(client: Client, params: dict[str, Any]) -> Any:
    """Request a stream, show its text while it arrives, and return the whole response."""
    place = screen()
    place.begin()
    try:
        async with client.responses.stream(**params) as stream:
            event: Any
            async for event in stream:
                if event.type == "response.output_text.delta":
                    place.text(event.delta)
                elif event.type in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
                    place.thought(event.delta)
            return await stream.get_final_response()
    finally:
        place.end()


def _note_ending(response: Any) -> None:
    """Print the id to continue from, and why the answer may be shorter than expected."""
    reason = getattr(getattr(response, "incomplete_details", None), "reason", None)
    if reason:
        note(f"The answer is incomplete: {reason}.")
    elif not response.output_text:
        note("The answer is empty.")
    if response.id and sys.stderr.isatty():
        note(f"Continue with: --previous {response.id}")


resolve_annotations(__name__)
