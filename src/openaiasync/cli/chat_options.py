"""The options of `openaiasync chat`, and those that it shares with `openaiasync responses`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter

from .arguments import ModelName, is_not_an_option

__all__ = ["ANY_PROMPT", "NO_OPTIONS", "ChatOptions", "ImageFiles", "PromptOptions", "file_option", "pair_option"]

_REQUEST, _PROMPT = Group("Request", sort_key=2), Group("Prompt", sort_key=1)
_TOOLS, _TALK, _OUTPUT = Group("Tools", sort_key=3), Group("Conversation", sort_key=4), Group("Output", sort_key=5)
_Pairs = tuple[tuple[str, str], ...]


def _option(group: Group, help: str, *names: str) -> Parameter:
    return Parameter(name=names or None, group=group, help=help, negative="", show_default=False)


def _are_not_options(kind: Any, values: tuple[str, ...]) -> None:
    """Raise `ValueError` for a file that looks like an option."""
    for value in values:
        is_not_an_option(kind, value)


def file_option(group: Group | None, help: str, *names: str) -> Parameter:
    """Return an option for files, where ``-`` is stdin."""
    option = Parameter(
        name=names, help=help, negative="", show_default=False, allow_leading_hyphen=True, validator=_are_not_options
    )
    return option if group is None else Parameter.combine(option, Parameter(group=group))


def pair_option(group: Group, help: str, *names: str) -> Parameter:
    """Return an option with a name and a value, which may begin with a hyphen or be JSON."""
    return Parameter(
        name=names,
        group=group,
        help=help,
        negative="",
        show_default=False,
        allow_leading_hyphen=True,
        json_list=False,
    )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """The options of a request and of the output of its answer."""

    model: Annotated[ModelName, Parameter(group=_REQUEST)] = None
    option: Annotated[
        _Pairs,
        pair_option(
            _REQUEST,
            "A parameter of the API and its value, such as -o temperature 0.5; objects and lists as JSON. Repeatable.",
            "--option",
            "-o",
        ),
    ] = ()
    extra_body: Annotated[
        str | None, _option(_REQUEST, "Further fields of the request, as a JSON object or @FILE.")
    ] = None
    fragments: Annotated[
        tuple[str, ...],
        file_option(
            _PROMPT,
            'A text in front of the question: a file, an http(s) URL, or "-" for stdin. Repeatable.',
            "--fragment",
            "-f",
        ),
    ] = ()
    system: Annotated[str | None, _option(_PROMPT, "The system prompt.", "--system", "-s")] = None
    as_json: Annotated[
        bool,
        _option(_OUTPUT, "Print the complete answer object as JSON, instead of its text as it arrives.", "--json"),
    ] = False
    usage: Annotated[bool, _option(_OUTPUT, "Print the numbers of tokens on stderr.", "--usage", "-u")] = False
    extract: Annotated[bool, _option(_OUTPUT, "Print only the last code block of the answer.", "--extract", "-x")] = (
        False
    )
    no_log: Annotated[bool, _option(_OUTPUT, "Do not add this to the log (openaiasync logs).")] = False
    no_stream: Annotated[bool, _option(_OUTPUT, "Request the answer as a whole, not as a stream.")] = False


ANY_PROMPT = PromptOptions()
ImageFiles = Annotated[
    tuple[str, ...],
    file_option(_PROMPT, 'A picture to ask about: a file, a URL, or "-" for stdin. Repeatable.', "--image", "-i"),
]


@dataclass(frozen=True, kw_only=True)
class ChatOptions(PromptOptions):
    """The options of ``chat`` except those of the server."""

    images: ImageFiles = ()
    audio: Annotated[
        tuple[str, ...], file_option(_PROMPT, 'A sound to ask about: a WAV or MP3 file, or "-". Repeatable.', "--audio")
    ] = ()
    template: Annotated[
        str | None, _option(_PROMPT, "Use the template with this name, or in this .toml file.", "--template", "-t")
    ] = None
    param: Annotated[
        _Pairs, pair_option(_PROMPT, "A parameter of the template and its value. Repeatable.", "--param", "-p")
    ] = ()
    save: Annotated[
        str | None,
        _option(_PROMPT, "Save the question and the options as a template with this name, and send nothing."),
    ] = None
    schema: Annotated[
        str | None, _option(_REQUEST, "A JSON schema, or a file with one; the answer is JSON that fits it.")
    ] = None
    tools: Annotated[
        tuple[str, ...],
        _option(_TOOLS, "A Python function that the model may call, as module:function. Repeatable.", "--tool", "-T"),
    ] = ()
    functions: Annotated[
        str | None, _option(_TOOLS, "Python code, or a file of it, whose functions the model may call.")
    ] = None
    approve: Annotated[bool, _option(_TOOLS, "Ask before each call of a tool.")] = False
    session: Annotated[
        str | None,
        _option(_TALK, "Continue the session with this name, or start it; a single question is saved there, too."),
    ] = None
    go_on: Annotated[bool, _option(_TALK, "Continue the last conversation.", "--continue", "-c")] = False
    conversation: Annotated[
        str | None, _option(_TALK, "Continue the conversation with this id (openaiasync logs).")
    ] = None
    forget: Annotated[bool, _option(_TALK, "Do not save the conversation, and do not log it.")] = False


NO_OPTIONS = ChatOptions()
