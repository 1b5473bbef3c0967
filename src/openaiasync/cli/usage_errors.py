"""Errors in the words of the command line: advice for mistyped commands, and flags in place of Python's names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from cyclopts import CycloptsError, UnknownOptionError, UnusedCliTokensError

__all__ = ["in_flags", "usage_message"]

_ONE_TEXT = {"chat": "question", "responses": "question", "image": "description", "speak": "text"}
"""Commands that take one text, and what it is."""
_OPERATIONS = {
    "chat": ("CHAT_COMPLETIONS_CREATE", "-o"),
    "responses": ("RESPONSES_CREATE", "-o"),
    "image": ("IMAGES_GENERATE", "--option"),
    "speak": ("AUDIO_SPEECH_CREATE", "--option"),
    "transcribe": ("AUDIO_TRANSCRIPTIONS_CREATE", "--option"),
}
"""Commands whose request takes further parameters: their operation, and the option for them."""
_FLAGS = {
    "api_base": "--base-url",
    "api_key": "--api-key",
    "base_url": "--base-url",
    "default_headers": "--header",
    "extra_headers": "--header",
    "http_timeout": "--timeout",
    "max_rounds": "the limit of this command",
}
_NAMES = re.compile(rf"(?<![\w.-])({'|'.join(_FLAGS)})(?![\w-])(?:=(?=[\s.,;:]|$))?")
_PYTHON = re.compile(
    r" \(max_body in http_other sets the limit for bodies held in memory\)|; pass api_key to the client"
)


def usage_message(error: CycloptsError, tokens: Sequence[str]) -> str:
    """Return what is wrong with a command line, and what to type instead."""
    chain = tuple(error.command_chain or (tokens[:1] if tokens[0] in _ONE_TEXT else ()))
    program = " ".join(("openaiasync", *chain))
    command = chain[0] if chain else ""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        unused = list(error.unused_tokens)
        if command in _ONE_TEXT:
            return _quoted_advice(program, command, unused, tokens)
        return f"{program} does not take {shlex.join(unused)}. Try '{program} --help'."
    if isinstance(error, UnknownOptionError) and command in _OPERATIONS:
        advice = _parameter_advice((error.token.keyword or "").partition("=")[0], command, tokens)
        if advice:
            return advice
    return f"{str(error).rstrip('.')}. Try '{program} --help'."


def _quoted_advice(program: str, command: str, unused: list[str], tokens: Sequence[str]) -> str:
    """Return the advice to quote a text whose words became several arguments."""
    at = next((i for i in range(len(tokens)) if list(tokens[i : i + len(unused)]) == unused), None)
    first = [] if not at or tokens[at - 1].startswith("-") else [tokens[at - 1]]
    text = shlex.quote(" ".join((*first, *unused)))
    return f"the {_ONE_TEXT[command]} is one argument: put several words in quotes, such as {program} {text}"


def _parameter_advice(option: str, command: str, tokens: Sequence[str]) -> str | None:
    """Return the advice to set a parameter of the API with ``-o``, if an unknown option is the name of one."""
    from .. import endpoints

    operation, flag = _OPERATIONS[command]
    name = option.lstrip("-").replace("-", "_")
    if name not in getattr(endpoints, operation).known:
        return None
    value = next((token.partition("=")[2] for token in tokens if token.startswith(f"{option}=")), "")
    if option in tokens:
        following = tokens[tokens.index(option) + 1 :][:1]
        value = following[0] if following and not following[0].startswith("--") else ""
    shown = shlex.quote(value) if value else "VALUE"
    return f"there is no option --{name.replace('_', '-')}; parameters of the API are set with {flag} {name} {shown}"


def in_flags(text: str) -> str:
    """Return the text of an error of the library with the flags of the command line in place of Python's names."""
    return _NAMES.sub(lambda match: _FLAGS[match[1]], _PYTHON.sub("", text))
