"""What a model is told of a tool's result or failure: text that never holds a traceback or a key."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from ..core.model.base import BaseModel
from .errors import ToolError
from .history import mended, plain_json

__all__ = ["ContentParts", "collected", "collected_later", "content_of", "is_small", "told_error"]

MAX_ERROR = 200  # characters of an exception's text that the model is told
MAX_TOLD = 2_000  # of what a tool wrote for the model
MAX_READ = 4_000  # characters of an exception's text that are looked at
MAX_RESULT = 16 << 20  # bytes of a result as JSON
MAX_ITEMS = 1_000_000  # items of iterables in a result
_SMALL = 1_000  # values that are encoded at once in the event loop


class ContentParts(list[dict[str, Any]]):
    """Content parts as a tool's result, sent as they are: ``ContentParts([{"type": "text", "text": "..."}, ...])``.

    OpenAI's own API takes only parts of type ``text`` in a tool's message; some servers take ``image_url`` there too.
    """


def content_of(value: Any, *, silent: bool = False) -> str | list[dict[str, Any]]:
    """The content of the message that tells the model a result: a str as it is, `ContentParts` too, the rest as JSON.

    `None` is ``null``, and ``ok`` where the tool is `silent`, declared to return nothing. Half of a UTF-16 pair becomes
    U+FFFD. Raises `TypeError` or `ValueError` for what JSON cannot carry, and for more than 16 MiB of it.
    """
    if isinstance(value, str):
        _check_size(len(value))
        return mended(value)
    if value is None and silent:
        return "ok"
    text = _json(value)
    if isinstance(value, ContentParts):
        parts: list[dict[str, Any]] = msgspec.json.decode(text)
        return parts
    return text.decode()


def _json(value: Any) -> bytes:
    if isinstance(value, BaseModel):
        value = value.to_dict(mode="json")
    try:
        try:
            text = msgspec.json.encode(value, enc_hook=_Foreign())
        except UnicodeEncodeError:
            text = msgspec.json.encode(plain_json(msgspec.to_builtins(value, enc_hook=_Foreign())))
    except RecursionError:
        raise ValueError("the result contains itself, or is nested too deeply for JSON") from None
    _check_size(len(text))
    return text


def _check_size(size: int) -> None:
    if size > MAX_RESULT:
        raise ValueError(f"the result is larger than {MAX_RESULT >> 20} MiB; return less of it")


class _Foreign:
    """Plain values of those that msgspec does not know: pydantic's models, numpy's arrays, paths, iterables."""

    def __init__(self) -> None:
        self._items = 0

    def __call__(self, value: Any) -> Any:
        kind: Any = value.__class__
        for name, arguments in (("model_dump", {"mode": "json", "by_alias": True}), ("tolist", {})):
            dump = getattr(value, name, None)
            if callable(dump) and kind is not type:
                return dump(**arguments)
        if isinstance(value, Mapping):
            return dict(self._counted(cast("Any", value).items()))
        if isinstance(value, os.PathLike):
            return os.fspath(cast("os.PathLike[str]", value))
        if isinstance(value, Iterable):
            return list(self._counted(cast("Iterable[object]", value)))
        raise TypeError(f"a result of type {kind.__name__} has no JSON form; return a text, a dict or a dataclass")

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, of which all iterables of a result together have no end: it may hold itself, or never end."""
        for item in items:
            self._items += 1
            if self._items > MAX_ITEMS:
                raise ValueError(f"the result has more than {MAX_ITEMS:,} items; return less of it")
            yield item


def is_small(value: Any) -> bool:
    """Whether a value is plain and encoded within a moment, so that no thread is needed."""
    if isinstance(value, (str, bytes, int, float, bool, type(None))):
        return not isinstance(value, str) or len(value) < MAX_RESULT
    todo: list[Any] = [value]
    count = 0
    for one in todo:  # grows while it is walked
        if isinstance(one, (dict, list, tuple)):
            items: Any = cast("Any", one)
            count += len(items)
            if count > _SMALL:
                return False
            todo += items.values() if isinstance(one, dict) else items
        elif not isinstance(one, (str, bytes, int, float, type(None))):
            return False
    return True


class _Gathering:
    """The items of a result that comes one by one, held to the size of a result."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._size = 0

    def add(self, item: Any) -> None:
        try:
            self._size += _size_of(item)
            _check_size(self._size)
        except ValueError as error:
            raise ToolError(f"The result cannot be told to the model: {error}") from error
        self.items.append(item)


def _size_of(item: Any) -> int:
    if isinstance(item, (str, bytes)):
        return len(item) + 3
    try:
        return 8 if isinstance(item, (int, float, type(None))) else len(_json(item))
    except TypeError:  # the whole will be refused for it, if it is to be told
        return 8


def collected(items: Iterator[Any], is_left: Callable[[], bool]) -> list[Any]:
    """The items of a generator that a tool returned; of one that nobody waits for any more, no further ones.

    Raises what iterating raises, and `ToolError` for more than a result may be.
    """
    found = _Gathering()
    for item in items:
        if is_left():
            break
        found.add(item)
    return found.items


async def collected_later(items: AsyncIterator[Any]) -> list[Any]:
    """The same of an asynchronous generator; others run in between, also where the generator itself never waits."""
    found = _Gathering()
    try:
        async for item in items:
            found.add(item)
            if len(found.items) % 64 == 0:
                await asyncio.sleep(0)
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
    return found.items


def told_error(error: BaseException, scrub: Callable[[bytes], bytes], *, whole: bool = False) -> str:
    """What the model is told of an exception: its class and the beginning of its text, on one line.

    Taken out are this client's keys, and what looks like a credential. A `ToolError` was written for the model: its
    text stands alone, and may be longer. With `whole`, texts stay as they are but for this client's keys.
    """
    text = " ".join(_text_of(error)[:MAX_READ].split())
    text = scrub(text.encode("utf-8", "replace")).decode("utf-8", "replace")
    written = isinstance(error, ToolError)
    if not whole:
        from ..core.model.credentials import without_credentials

        text = without_credentials(text)
        most = MAX_TOLD if written else MAX_ERROR
        text = text if len(text) <= most else f"{text[:most]}…"
    if written:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failure:  # code of the exception's own, which must not end the turn
        return f"(its text cannot be read: {type(failure).__name__})"
