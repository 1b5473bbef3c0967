"""Errors in the words of the command line: advice for mistyped commands, and flags in place of Python's names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final, Literal, cast, get_args, get_origin

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

__all__ = ["in_flags", "split_pairs", "usage_message"]

_ONE_TEXT = {"chat": "question", "responses": "question", "image": "description", "similar": "text", "speak": "text"}
"""Commands that take one text, and the word for it."""
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
_TWICE = re.compile(r"(--[a-z-]{1,40})(?:, \1\b)+")  # two names of the library that are one flag
_PAIR = re.compile(r"[A-Za-z_][\w.-]*=")
_CHAT_PAIRS: Final = frozenset({"-o", "--option", "-p", "--param"})
_MEDIA_PAIRS: Final = frozenset({"--option"})
_PAIRS: Final[dict[str, frozenset[str]]] = {
    "bench": _CHAT_PAIRS,
    "chat": _CHAT_PAIRS,
    "responses": _CHAT_PAIRS,
    "image": _MEDIA_PAIRS,
    "speak": _MEDIA_PAIRS,
    "transcribe": _MEDIA_PAIRS,
}
"""Commands and their options that take a name and a value."""
_MEANT = re.compile(r'Did you mean "?([^"?]{1,60}?)"?\?')
_BOUND = re.compile(r"Must be (>=|>|<=|<) (.+?)\.?")
_BOUNDS = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}
_PYTHON = re.compile(
    r" \(max_body in http_other sets the limit for bodies held in memory\)|; pass api_key to the client"
)


def usage_message(error: CycloptsError, tokens: Sequence[str]) -> str:
    """Return what is wrong with a command line, and what to type instead."""
    chain = tuple(error.command_chain or (tokens[:1] if tokens[0] in _ONE_TEXT else ()))
    program = " ".join(("openaiasync", *chain))
    advice = _advice(error, chain, program, tokens)
    return advice or f"{_phrased(error, chain)} Try '{program} --help'."


def _advice(error: CycloptsError, chain: Sequence[str], program: str, tokens: Sequence[str]) -> str | None:
    """Return the command line that was probably meant; `None` if that is not known."""
    command = chain[0] if chain else ""
    if advice := _file_for_parameter(command, tokens):
        return advice
    unused = list(error.unused_tokens or ()) if isinstance(error, UnusedCliTokensError) else []
    if unused and tuple(chain) == ("keys", "set"):
        return "a key is not an argument, which other users of this machine can read: type it when asked, or pipe it"
    if unused and command in _ONE_TEXT:
        return _quoted_advice(program, command, unused, tokens)
    if unused and command == "embed":
        text = shlex.quote(" ".join(_arguments(tokens, unused)))
        return f"embed takes a file of texts; a text goes through a pipe: echo {text} | {program}"
    if isinstance(error, UnknownOptionError) and command in _OPERATIONS:
        return _parameter_advice((error.token.keyword or "").partition("=")[0], command, tokens)
    if isinstance(error, UnknownOptionError) and command == "similar" and "--store" in tokens:
        return f"the store is the first argument of similar, the text the second: {_similar(program, tokens)}"
    return None


def _phrased(error: CycloptsError, chain: Sequence[str]) -> str:
    """Return what is wrong as a sentence in the voice of this command line."""
    meant = _MEANT.search(text := str(error))
    hint = f"; did you mean {meant[1]}?" if meant else "."
    unused = list(error.unused_tokens or ())
    if isinstance(error, UnknownCommandError):
        ask = "" if meant or chain else f"; a question is asked with: openaiasync chat {shlex.quote(unused[0])}."
        return f"there is no command {unused[0]!r}{ask or hint}"
    if isinstance(error, UnknownOptionError):
        return f"there is no option {(error.token.keyword or error.token.value).partition('=')[0]}{hint}"
    if isinstance(error, RepeatArgumentError):
        return f"{error.token.keyword} is given more than once."
    if isinstance(error, UnusedCliTokensError) and unused:
        subcommands = [name for name in error.app or () if not name.startswith("-")]
        near = get_close_matches(unused[0], subcommands, 1)
        # What follows a mistyped "keys set" may be a key.
        shown = shlex.join(unused[:1] if subcommands else unused)
        return f"{' '.join(chain)} does not take {shown}{f'; did you mean {near[0]}?' if near else '.'}"
    argument = error.argument
    if argument is None:
        return text if text.endswith("?") else f"{text.rstrip('.')}."
    token = getattr(error, "token", None) or next(iter(argument.tokens), None)
    given = getattr(error, "keyword", None) or (None if token is None else token.keyword)
    name, value = given or argument.name, "" if token is None else token.value
    if isinstance(error, MissingArgumentError):
        if given is None:
            return f"{' '.join(chain)} needs {name}."
        pair = argument.token_count()[0] == 2
        return f"{name} takes a name and a value: {name} NAME VALUE." if pair else f"{name} takes a value."
    if isinstance(error, CoercionError):
        return f"{name} takes {_kind(error.target_type)}" + (f", not {value!r}{hint}" if value else hint)
    if isinstance(error, ValidationError):
        bound = _BOUND.fullmatch(error.exception_message)
        text = f"{name} must be {_BOUNDS[bound[1]]} {bound[2]}, not {value}" if bound else error.exception_message
    return f"{text.rstrip('.')}."


def _kind(kind: object) -> str:
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}"
    return {bool: "no value", int: "a whole number", float: "a number"}.get(cast("type", kind), "a text")


def split_pairs(tokens: Sequence[str]) -> list[str]:
    """Return a command line with ``-o NAME VALUE`` for each ``-o NAME=VALUE``: names of parameters have no ``=``."""
    flags = _PAIRS.get(tokens[0], frozenset[str]()) if tokens else frozenset[str]()
    split: list[str] = []
    for at, token in enumerate(tokens):
        if token == "--":
            return [*split, *tokens[at:]]
        flag, equals, pair = token.partition("=")
        if split and split[-1] in flags and _PAIR.match(token):
            split += token.split("=", 1)
        elif equals and flag in flags and _PAIR.match(pair):
            split += [flag, *pair.split("=", 1)]
        else:
            split.append(token)
    return split


def _arguments(tokens: Sequence[str], unused: list[str]) -> list[str]:
    """Return the unused arguments, with the one in front of them."""
    at = next((i for i in range(len(tokens)) if list(tokens[i : i + len(unused)]) == unused), None)
    first = [] if not at or tokens[at - 1].startswith("-") else [tokens[at - 1]]
    return [*first, *unused]


def _similar(program: str, tokens: Sequence[str]) -> str:
    at = tokens.index("--store")
    store = "".join(tokens[at + 1 : at + 2]) or "FILE"
    text = "".join(tokens[1:2]) if at > 1 and not tokens[1].startswith("-") else "TEXT"
    return shlex.join([*program.split(), store, text])


def _file_for_parameter(command: str, tokens: Sequence[str]) -> str | None:
    """Return advice if ``-o``, the file in this command, was followed by the name of a parameter of the API."""
    if _OPERATIONS.get(command, ("", ""))[1] != "--option" or "-o" not in tokens:
        return None
    from .. import endpoints

    known = getattr(endpoints, _OPERATIONS[command][0]).known
    for at, token in enumerate(tokens[:-1]):
        name, _, value = tokens[at + 1].partition("=")
        if token == "-o" and name.replace("-", "_") in known:
            value = value or "".join(tokens[at + 2 : at + 3])
            shown = shlex.quote(value) if value and not value.startswith("--") else "VALUE"
            return f"-o is the file in {command}; parameters of the API are set with --option {name} {shown}"
    return None


def _quoted_advice(program: str, command: str, unused: list[str], tokens: Sequence[str]) -> str:
    """Return the advice to quote a text whose words became several arguments."""
    text = shlex.quote(" ".join(_arguments(tokens, unused)))
    if command == "similar":  # whose first argument is the store
        program += f" {shlex.quote(tokens[1])}" if not tokens[1].startswith("-") else " STORE"
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
    """Return the text of an error of the library with flags in place of the names of Python parameters."""
    return _TWICE.sub(r"\1", _NAMES.sub(lambda match: _FLAGS[match[1]], _PYTHON.sub("", text)))
