"""What mission methods have in common: the first positional is the main thing, or the whole request as one dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ..core.codec.endpoint import Endpoint

__all__ = ["MISSING", "parameters"]

MISSING: Any = object()
_USUAL = frozenset({str, list})  # told apart from a mapping without asking an abstract class


def parameters(endpoint: Endpoint, method: str, name: str, main: Any, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of one call: `main` under its `name`, or taken apart if it is the whole request.

    Keywords win over the dict's keys. `TypeError` for a flag that would change the type of the answer.
    """
    whole = main.__class__ not in _USUAL and isinstance(main, Mapping)
    if whole:
        params = {**cast("Mapping[str, Any]", main), **params}
    elif main is not MISSING:
        params[name] = main
    if "stream" in params:
        if params["stream"]:
            raise TypeError(f"{method}() always answers whole; client.{method}.stream(...) streams")
        params = {key: value for key, value in params.items() if key != "stream"}
    if whole and name not in params and "role" in params:
        raise TypeError(
            f"{method}() takes a list of messages, a text, or a whole request; put a single message in a list"
        )
    return params
