"""Errors about the arguments of a call name the public method that was called, and what to write instead.

Python's own errors name the class behind a namespace (``EmbeddingMethods.__call__()``), and those of an endpoint every
method that uses it. Nothing here runs unless a call fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["explain_arguments", "name_method"]

_PACKAGE = __name__.partition(".")[0]
_GENERATED = f"{_PACKAGE}.api."
_NAMESPACES = {  # hand-written classes, by the name under which callers know them
    "ChatCompletionsHelpers": "client.chat.completions",
    "ChatMethods": "client.chat",
    "ChatSession": "session",
    "Client": "client",
    "ClientMethods": "client",
    "CompletionMethods": "client.completion",
    "EmbedManyMethods": "client.embed_many",
    "EmbeddingMethods": "client.embedding",
    "ImageGenerateMethods": "client.image_generate",
    "MapMethods": "client.map",
    "ModelsMethods": "client.models",
    "ResponsesHelpers": "client.responses",
    "SpeechToTextMethods": "client.speech_to_text",
    "TextToSpeechMethods": "client.text_to_speech",
    "VisionMethods": "client.vision",
}
_RUNS = {"RowStream": "client.map"}  # classes whose tasks make the calls of a method
_KEYWORDS = {  # what callers of a method give by position, and what to write
    "__init__": 'the options are keywords: api_key="..."',
    "client.chat.session": 'a system prompt is system="...", a history is messages=[...]',
    "client.chat.parse": "the type is a keyword: into=...",
    "client.chat.stream_parse": "the type is a keyword: into=...",
    "client.chat.run_tools": "the functions are a keyword: tools=[...]",
    "client.chat.stream_tools": "the functions are a keyword: tools=[...]",
    "client.embedding": "several texts are one list; everything else is a keyword, such as model=",
    "client.with_options": "the options are keywords: model=...",
    "session.say": "one text or one list of content parts; a system prompt is system= of the session",
    "session.stream": "one text or one list of content parts; a system prompt is system= of the session",
}
_ONE_TEXT = "one text or one list of messages; everything else is a keyword, such as model="


def _public_name(module: str, qualname: str) -> str:
    """Return the name that callers know for a method of this module, or ""."""
    owner, _, name = qualname.rpartition(".")
    if name == "__init__":
        return owner
    if owner in _RUNS:
        return _RUNS[owner]
    shown = _NAMESPACES.get(owner, "")
    if not shown and module.startswith(_GENERATED) and owner.startswith("Async"):
        shown = f"client.{module.removeprefix(_GENERATED)}"
    if not shown or name == "__call__":
        return shown
    return "" if name.startswith("_") else f"{shown}.{name}"


def explain_arguments(error: BaseException, method: Callable[..., Any]) -> None:
    """Name the public method in Python's error for arguments that do not fit, with what to write.

    Only for an error that has no frame below the caller's: the arguments did not fit, so the method did not run.
    """
    frame, text = error.__traceback__, str(error)
    if not isinstance(error, TypeError) or frame is None or frame.tb_next is not None:
        return
    named, _, wrong = text.partition("() ")
    if named == method.__qualname__ and wrong.startswith(("takes ", "missing ", "got ")):
        shown = _public_name(method.__module__, named) or named
        advice = ""
        if " positional argument" in wrong and wrong.startswith("takes "):
            chat = _ONE_TEXT if shown.startswith("client.chat") else "pass the others as keywords"
            advice = f"; {_KEYWORDS.get('__init__' if named.endswith('.__init__') else shown, chat)}"
        error.args = (f"{shown}() {wrong}{advice}",)


def name_method(error: BaseException, named: str) -> None:
    """Replace `named`, with which the text of a `TypeError` begins, by the public method that is being called.

    That is the outermost one of this package in the frames from here up to the caller's. Without one, as in some tasks
    of the library, the text does not change.
    """
    text = str(error)
    if not isinstance(error, TypeError) or not text.startswith(named):
        return
    frame: FrameType | None = inspect.currentframe()
    called = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] != _PACKAGE:
            break
        called = _public_name(module, frame.f_code.co_qualname) or called
        frame = frame.f_back
    if called:
        error.args = (f"{called}(){text.removeprefix(named)}",)
