"""Decodes large answers in slices, so that no step blocks the event loop for long.

The long arrays of an answer (embeddings, pages of a list) are cut between elements and decoded a few elements at a
time. No cut can be wrong, because every slice has to be JSON by itself: it begins where an element begins, so it is
only valid if it ends where one ends. Any other answer is decoded at once.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import msgspec

from ..model.lenient import flatten, is_struct
from .decode import DecodeError, Decoder, decoder_for

__all__ = ["decode_in_slices"]

T = TypeVar("T")

_GROUP = 1 << 17  # bytes of elements that one step decodes, at least
_MOST_TOKENS = 50_000  # bytes of one element, which is scanned in one step

_QUOTE, _BACKSLASH, _OPEN_LIST, _CLOSE_LIST, _OPEN = b'"\\[]{'
_NUMBERS = frozenset(b"-0123456789")
_NEXT = re.compile(rb'["\[\]{}]')
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")


class _OddError(Exception):
    """This body is decoded at once: it is not JSON, or has no long array."""


def decode_in_slices(decoder: Decoder[T], body: bytes) -> Generator[None, None, T]:
    """Do ``decoder.decode(body)`` in steps, yielding after each.

    A step takes a few milliseconds, longer only for a single large element or if nothing can be cut.
    """
    try:
        return (yield from _decode(decoder, body))
    except (_OddError, DecodeError):
        return decoder.decode(body)


def _decode(decoder: Decoder[T], body: bytes) -> Generator[None, None, T]:
    lists = _lists_of(decoder.kind)
    if not lists:
        raise _OddError
    kept: list[bytes] = []
    start = 0
    made: dict[str, list[Any]] = {}
    at = _after_space(body, 0)
    if body[at : at + 1] != b"{":
        raise _OddError
    while body[at : at + 1] != b"}":
        name, at = _name(body, at + 1)
        if name in made:
            raise _OddError  # a name used twice
        end = at
        if name in lists and body[at : at + 1] == b"[":
            items: list[Any] = []
            for first, end in _groups(body, at):
                if not items and body[end] == _CLOSE_LIST:
                    break  # not long enough to be cut
                items += decoder_for(lists[name][1], strict=decoder.strict).decode(b"[%b]" % body[first:end])
                yield
            if items:
                made[name] = items
                kept.append(body[start:at] + b"[]")
                start = end + 1
        at = _after_space(body, end + 1 if name in made else _value_end(body, at))
        if body[at : at + 1] not in (b",", b"}"):
            raise _OddError
        yield
    if not made:
        raise _OddError
    answer = decoder.decode(b"".join([*kept, body[start:]]))
    for name, items in made.items():
        setattr(answer, lists[name][0], items)
    return answer


def _lists_of(kind: Any) -> dict[str, tuple[str, Any]]:
    """Return the fields of a Struct that are lists: name on the wire → attribute and type."""
    if not is_struct(kind):
        return {}
    found: dict[str, tuple[str, Any]] = {}
    for field in msgspec.structs.fields(kind):
        for member in flatten(field.type):
            if typing.get_origin(member) is list:
                found[field.encode_name] = (field.name, member)
    return found


def _name(body: bytes, at: int) -> tuple[str, int]:
    """Return the name of the member that begins here, and where its value begins."""
    start = _after_space(body, at)
    if body[start : start + 1] != b'"':
        raise _OddError
    end = _string_end(body, start)
    at = _after_space(body, end)
    if body[at : at + 1] != b":":
        raise _OddError
    try:
        return msgspec.json.decode(body[start:end], type=str), _after_space(body, at + 1)
    except ValueError:
        raise _OddError from None


def _groups(body: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of groups of a list's elements; the last ends where the list does."""
    start = at = _after_space(body, at + 1)
    while True:
        at = _after_space(body, _value_end(body, at))
        mark = body[at : at + 1]
        if mark == b"]":
            yield start, at
            return
        if mark != b",":
            raise _OddError
        if at - start >= _GROUP:
            yield start, at
            start = at + 1
        at = _after_space(body, at + 1)


def _after_space(body: bytes, at: int) -> int:
    found = _SPACE.match(body, at)
    assert found is not None  # the match may be empty
    return found.end()


def _value_end(body: bytes, at: int) -> int:
    """Return where the value that begins here ends; some place if it is not a value."""
    mark = body[at : at + 1]
    if mark == b'"':
        return _string_end(body, at)
    if mark not in (b"[", b"{"):
        found = _SCALAR.match(body, at)
        if found is None:
            raise _OddError
        return found.end()
    depth = 0
    for _ in range(_MOST_TOKENS):
        found = _NEXT.search(body, at)
        if found is None:
            raise _OddError
        at = found.start()
        one = body[at]
        if one == _QUOTE:
            at = _string_end(body, at)
        elif one in (_OPEN, _OPEN_LIST):
            depth += 1
            at += 1
            if one == _OPEN_LIST and body[at : at + 1] and body[at] in _NUMBERS:
                at = body.find(b"]", at)  # a thousand numbers in one step; decoding checks them
                if at < 0:
                    raise _OddError
        else:
            depth -= 1
            at += 1
            if not depth:
                return at
    raise _OddError


def _string_end(body: bytes, at: int) -> int:
    end = body.find(b'"', at + 1)
    while end > 0:
        start = end
        while body[start - 1] == _BACKSLASH:
            start -= 1
        if (end - start) % 2 == 0:
            return end + 1
        end = body.find(b'"', end + 1)
    raise _OddError
