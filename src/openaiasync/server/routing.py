"""Routing: from method and path to the operation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from .errors import HTTPError

__all__ = ["PICTURES", "Route", "Router"]

PICTURES: Final = "/pictures/"
"""The links to pictures in answers lead below this path."""


class Route(NamedTuple):
    """An operation's name, and the arguments in its path, percent-decoded."""

    operation: str
    arguments: dict[str, str]


class Router:
    """Finds operations by paths like ``/models/{model}``, with or without ``/v1`` before them."""

    def __init__(self, operations: Iterable[tuple[str, str, str]]) -> None:
        """Take operations as method, path and name."""
        self._plain: dict[bytes, dict[str, str]] = {}
        self._patterns: dict[re.Pattern[bytes], dict[str, str]] = {}
        for method, template, name in operations:
            if "{" in template:
                expression = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
                methods = self._patterns.setdefault(re.compile(expression.encode()), {})
            else:
                methods = self._plain.setdefault(template.encode(), {})
            methods[method] = name

    def find(self, method: str, path: bytes) -> Route:
        """Return the route. Raises `HTTPError`: 404 (``unknown_url``), 405 with ``Allow``."""
        short = path[3:] if path.startswith(b"/v1/") else path
        methods = self._plain.get(short)
        arguments: dict[str, str] = {}
        if methods is None:
            for pattern, candidates in self._patterns.items():
                match = pattern.fullmatch(short)
                if match is not None:
                    methods = candidates
                    given = match.groupdict().items()
                    arguments = {name: unquote_to_bytes(value).decode("utf-8", "replace") for name, value in given}
                    break
        if methods is None:
            shown = path[:200].decode("latin-1")
            raise HTTPError(404, f"Unknown request URL: {method} {shown}.", code="unknown_url")
        name = methods.get("GET" if method == "HEAD" else method)
        if name is None:
            allowed = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
            raise HTTPError(
                405,
                f"Not allowed to {method} on this URL.",
                code="method_not_allowed",
                fields=((b"allow", allowed.encode()),),
            )
        return Route(name, arguments)
