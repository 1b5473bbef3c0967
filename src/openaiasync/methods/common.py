"""Shared by the hand-written methods: reading the request's arguments, marking methods without a raw form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from ..core.codec.endpoint import Endpoint

__all__ = ["MISSING", "no_raw_twin", "parameters"]

F = TypeVar("F", bound=Callable[..., Any])


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<missing>"  # what `help` shows as the default


MISSING: Any = _Missing()
_TEXT_PARAMETERS = frozenset({"messages", "input", "prompt"})
_NO_TEXT = (bytes, bytearray, int, float)
_USUAL = frozenset({str, list})  # cheaper to look up than `isinstance(main, Mapping)`, an abstract class


def parameters(endpoint: Endpoint, method: str, name: str, main: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of one call: `main` under its `name`, or its items if it is the whole request.

    Keywords win over the dict's items. Raises `TypeError` for a main argument that no request can hold, and for a flag
    that would change the type of the answer.
    """
    whole = False
    if main.__class__ not in _USUAL:
        whole = isinstance(main, Mapping)
        if main is None:
            raise TypeError(f"client.{method}() needs {name!r}, not None")
        if name in _TEXT_PARAMETERS and isinstance(main, _NO_TEXT):
            what = "a text or a list of messages" if name == "messages" else "a text"
            raise TypeError(f"client.{method}() takes {what}, not {type(main).__name__}")
    if whole:
        params = {**cast("Mapping[str, Any]", main), **params}
    elif main is not MISSING:
        params[name] = main
    if "stream" in params:
        if params["stream"]:
            raise TypeError(f"client.{method}() returns the whole answer; client.{method}.stream(...) streams it")
        params = {key: value for key, value in params.items() if key != "stream"}
    if whole and name not in params and "role" in params:
        raise TypeError(
            f"client.{method}() takes a list of messages, a text, or a whole request: put a single message into a list"
        )
    return params


def no_raw_twin(method: F) -> F:
    """Mark a method without a raw form: it makes several requests, or none yet."""
    method.__dict__["no_raw_twin"] = True
    return method
