"""What this library adds to requests that nobody asked for: vectors as base64, usage in streams.

Most servers take it, and gain or lose nothing by it. One that refuses it is asked again at once without, whatever its
status, and is never asked so again. That is no retry: the request as the caller made it has not been sent before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..core.model.omitted import is_omitted
from .config import BaseURL

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..errors import APIError

__all__ = ["Defaults", "is_left_out", "refuses_parameter"]

_USAGE = {"include_usage": True}


class Defaults:
    """What is known of the servers of one client and its relatives; one URL is one server."""

    def __init__(self) -> None:
        self._refused: set[tuple[str, str, str]] = set()
        self._cleared: set[tuple[str, str, str]] = set()  # a refusal without a name is about something else

    def with_base64(self, base: BaseURL, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters of embeddings that ask for base64 unless the caller names a format: a quarter of the bytes."""
        return self._with(base, params, "encoding_format", "base64")

    def with_usage(self, base: BaseURL, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters of a stream that ask for usage unless the caller gives ``stream_options``."""
        if "stream_options" in params and params["stream_options"] is None:
            return params
        return self._with(base, params, "stream_options", _USAGE)

    def _with(self, base: BaseURL, params: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
        if not is_left_out(params, name) or (self._refused and (base.root, base.path, name) in self._refused):
            return params
        return {**params, name: value}

    def taken(self, base: BaseURL, request: Request) -> None:
        """The server answered this request."""
        for name in request.unasked:
            self._cleared.add((base.root, base.path, name))

    def refused(self, base: BaseURL, names: tuple[str, ...]) -> None:
        """The server refused these."""
        self._refused.update((base.root, base.path, name) for name in names)

    def without(self, base: BaseURL, request: Request, error: APIError) -> tuple[Request, tuple[str, ...]] | None:
        """The request without what the server refuses, and what that is; `None` if the refusal is not about it.

        What the server names is remembered at once. A refusal that names nothing may mean it: that is tried once for
        each server, and remembered if the request is taken without.
        """
        found: tuple[str, ...] = tuple(name for name in request.unasked if self._is_meant(base, name, error))
        if not found or request.body.__class__ is not bytes:
            return None
        fields = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
        changed = copy.copy(request)
        changed.body = msgspec.json.encode({name: value for name, value in fields.items() if name not in found})
        changed.unasked = tuple(name for name in request.unasked if name not in found)
        return changed, found

    def _is_meant(self, base: BaseURL, name: str, error: APIError) -> bool:
        from ..core.codec.dialects import refuses_default  # only a refusal needs the table

        key = (base.root, base.path, name)
        if refuses_default(error, name, certainly=True):
            self._refused.add(key)
            return True
        suspected = key not in self._cleared and refuses_default(error, name)
        if suspected:
            self._cleared.add(key)
        return suspected


def is_left_out(params: Mapping[str, Any], name: str) -> bool:
    """Whether the caller says nothing of a parameter of the body, neither by itself nor in ``extra_body``."""
    value = params.get(name)
    if value is not None and not is_omitted(value):
        return False
    extra = params.get("extra_body")
    if extra is None or is_omitted(extra):
        return True
    return isinstance(extra, Mapping) and name not in cast("Mapping[str, Any]", extra)


def refuses_parameter(request: Request, error: APIError) -> bool:
    """Whether an error of the server names the format asked for, so that the same request would fail again.

    llama-cpp-python answers 500 to a ``response_format`` that it does not know.
    """
    from ..core.codec.dialects import FORMAT_WORDS, names_parameter

    body = request.body
    return body.__class__ is bytes and b'"response_format"' in body and names_parameter(error, FORMAT_WORDS[:1])
