"""`openaiasync chat`: one question, or a conversation on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lazy import resolve_annotations
from .api_options import api_parameters, extra_body_in
from .arguments import image_at, is_code, schema_in, sound_at
from .chat_log import chat_log_for, file_names, resumed_for
from .chat_options import ChatOptions, PromptOptions
from .console import CommandError, Exit, note, write_bytes
from .fragments import Prompt, StandardInput, read_fragments, text_in, text_of_argument
from .model_aliases import resolve_alias, resolve_server
from .render import note_usage, show_turn, write_code_block
from .session_store import SessionStore, open_session
from .templates import Template, apply_template, save_template

if TYPE_CHECKING:
    from .arguments import ServerOptions

__all__ = ["question_in", "run_chat"]

_TOOL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# Parameters that a conversation sets itself, and what to use instead.
_FLAGS = {
    "model": "the model is given with --model",
    "messages": "messages are the question, --system and --session",
    "stream": "answers are streamed unless --no-stream is given",
    "n": "a conversation has one answer to each question",
    "tools": "tools are given with --tool and --functions",
    "functions": "tools are given with --tool and --functions",
    "function_call": "use -o tool_choice",
    "timeout": "use --timeout",
    "extra_headers": "use --header",
    "extra_body": "use --extra-body",
}


def run_chat(server: ServerOptions, question: str | None, options: ChatOptions) -> int:
    """Ask the question given as an argument, through a pipe, or both; without one start a conversation."""
    options = _checked(options)
    stdin = StandardInput()
    if options.save is not None:
        return _save(options, question)
    images = [image_at(place, stdin) for place in options.images]
    audio = [sound_at(place, stdin) for place in options.audio]
    fragments = asyncio.run(read_fragments(server, options.fragments, stdin)) if options.fragments else []
    text = question_in(question, stdin, optional=bool(fragments or options.template))
    if options.template is not None:
        named, given = options.model, options.fragments
        options, text = apply_template(options.template, options, text)
        added = options.fragments[: len(options.fragments) - len(given)]
        fragments = [*asyncio.run(read_fragments(server, added, stdin)), *fragments] if added else fragments
        if named is None and options.model is not None:  # the template's, which may be an alias
            alias = resolve_alias(options.model)
            options, server = replace(options, model=alias.model), resolve_server(server, alias)
    settings = request_settings(options)
    if options.approve:
        from .approval import Approval

        settings["permit"] = Approval()
    schema = None if options.schema is None else schema_in(options.schema)
    if schema is not None and "response_format" in settings:
        raise CommandError("--schema sets the form of the answer; leave out -o response_format")
    if text is not None or fragments:
        prompt = Prompt(text or "", fragments, images, audio)
        return asyncio.run(_ask_once(server, prompt, options, settings, schema))
    if stdin.reader:
        raise CommandError(f"there is no question: {stdin.reader} reads stdin; give the question as an argument")
    for flag, wanted in (("--json", options.as_json), ("--extract", options.extract)):
        if wanted:
            raise CommandError(f"{flag} needs a question, as an argument or through a pipe")
    from .repl import converse

    return converse(server, options, Prompt("", (), images, audio), settings, schema)


def _checked(options: ChatOptions) -> ChatOptions:
    """Return the options. Raises `CommandError` for some that contradict each other."""
    if options.conversation is not None and (options.go_on or options.session is not None or options.forget):
        raise CommandError("--conversation continues one of the log; use it without --continue, --session and --forget")
    if options.go_on and options.session is not None:
        raise CommandError("--continue continues the last session, --session the one that it names; use one of them")
    if options.forget and (options.go_on or options.session is not None):
        raise CommandError("--forget keeps nothing, --session and --continue keep the conversation; use one of them")
    readers = [
        f"{flag} -"
        for flag, places in (("-f", options.fragments), ("-i", options.images), ("--audio", options.audio))
        for place in places
        if place == "-"
    ]
    if len(readers) > 1:
        raise CommandError(f"stdin can be read only once, but {' and '.join(readers)} are to read it")
    if options.extract and options.as_json:
        raise CommandError("--extract prints a code block, --json the whole answer; use one of them")
    if options.template is not None and _TOOL.fullmatch(options.template):
        note(f"-t is the option for templates now; -T {options.template} names a tool.")
        options = replace(options, tools=(*options.tools, options.template), template=None)
    if options.param and options.template is None and options.save is None:
        raise CommandError("-p sets a parameter of a template; name the template with -t")
    return options


def question_in(argument: str | None, stdin: StandardInput, *, optional: bool = False) -> str | None:
    """Return the argument and the piped text, joined by a blank line; `None` if neither is there but a terminal is.

    With `optional` there may be neither. Raises `CommandError` for an empty question.
    """
    piped = ""
    if not stdin.reader and not stdin.is_terminal:
        data = stdin.read("the question")
        piped = text_in(data, "stdin")
    if argument is not None:
        argument = text_of_argument(argument, "the question")
    parts = [part for part in (argument, piped) if part and part.strip()]
    if parts:
        return "\n\n".join(parts)
    if argument is None and (stdin.is_terminal or optional or stdin.reader not in ("", "the question")):
        return None
    raise CommandError("the question is empty")


def request_settings(options: PromptOptions) -> dict[str, Any]:
    """Return what ``-o`` and ``--extra-body`` add to each turn, as arguments of `session.say`."""
    from ..endpoints import CHAT_COMPLETIONS_CREATE

    settings, others = api_parameters(CHAT_COMPLETIONS_CREATE, options.option, _FLAGS)
    if "audio" in settings:
        others["audio"] = settings.pop("audio")  # the format of an answer; `say` has the user's sounds by this name
    if body := {**others, **extra_body_in(options.extra_body)}:
        settings["extra_body"] = body
    return settings


async def _ask_once(
    server: ServerOptions, prompt: Prompt, options: ChatOptions, settings: dict[str, Any], schema: dict[str, Any] | None
) -> int:
    turn = {**settings, **prompt.turn()}
    resumed = resumed_for(options)
    async with server.client() as client:
        store = SessionStore.of(options.session, resumed.path)
        session = await open_session(client, options, store, resumed)
        log = chat_log_for(server, client, options, resumed)
        with contextlib.closing(session):
            try:
                log.begin()
                if options.as_json or options.extract:
                    reply = await session.say(**turn, into=schema)
                    if options.as_json:
                        write_bytes(reply.answer.to_json().encode("utf-8", "backslashreplace") + b"\n")
                    else:
                        write_code_block(reply.text)
                else:
                    reply = await show_turn(session, turn, schema, stream=not options.no_stream)
                if options.usage:
                    note_usage(reply.usage)
                store.keep(session)
                files = file_names([*prompt.images, *prompt.audio])
                log.add(session, reply, settings, prompt=prompt.text, fragments=prompt.fragments, files=files)
            finally:
                store.release(session)
    return Exit.OK


# ---------------------------------------------------------------- templates


def _save(options: ChatOptions, question: str | None) -> int:
    """Save the question and the options as a template."""
    for flag, given in (
        ("--template", options.template),
        ("--image", options.images),
        ("--audio", options.audio),
        ("--session", options.session),
        ("--continue", options.go_on),
        ("--conversation", options.conversation),
        ("--extra-body", options.extra_body),
    ):
        if given:
            raise CommandError(f"a template cannot hold {flag}; leave it out of the command with --save")
    request_settings(options)  # raises for wrong values
    schema = None
    if options.schema is not None:
        import json

        schema = json.dumps(schema_in(options.schema), indent=2, ensure_ascii=False)
    template = Template(
        prompt=question or "",
        system=options.system,
        model=options.model,
        schema=schema,
        functions=None if options.functions is None else _absolute(options.functions, is_code(options.functions)),
        fragments=tuple(map(_absolute, options.fragments)),
        tools=options.tools,
        extract=options.extract,
        approve=options.approve,
        options=dict(options.option),
        defaults=dict(options.param),
    )
    assert options.save is not None
    path = save_template(options.save, template)
    takes = "".join(f" -p {name} VALUE" for name in sorted(template.variables - template.defaults.keys()))
    note(f"Saved to {path}; use it with: openaiasync chat -t {options.save}{takes}")
    return Exit.OK


def _absolute(source: str, is_text: bool = False) -> str:
    """Return a path as one that is valid in any folder; stdin, URLs and texts are returned unchanged."""
    return source if is_text or source == "-" or "://" in source else str(Path(source).expanduser().absolute())


resolve_annotations(__name__)
