"""Routing: from method and path to the operation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from .errors import HTTPError

__all__ = ["NO_ARGUMENTS", "PICTURES", "Route", "Router"]

PICTURES: Final = "/pictures/"
"""The links to pictures in answers lead below this path."""


NO_ARGUMENTS: Final[Mapping[str, str]] = MappingProxyType({})
"""Those of a path without any."""


class Route(NamedTuple):
    """An operation's name, and the arguments in its path, percent-decoded."""

    operation: str
    arguments: Mapping[str, str]


class Router:
    """Finds operations by paths like ``/models/{model}``, with or without ``/v1`` before them.

    `not_served` are further operations of the API, which only serve to explain why a request is refused.
    """

    def __init__(
        self, operations: Iterable[tuple[str, str, str]], not_served: Iterable[tuple[str, str, str]] = ()
    ) -> None:
        """Take operations as method, path and name."""
        self._plain: dict[bytes, dict[str, Route]] = {}
        self._whole: dict[bytes, dict[str, Route]] = {}  # the same, and once more below ``/v1``: for most requests
        self._patterns: dict[re.Pattern[bytes], dict[str, Route]] = {}
        self._not_served = not_served
        self._others: Router | None = None  # made for the first request that is refused
        for method, template, name in operations:
            if "{" in template:
                expression = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
                methods = self._patterns.setdefault(re.compile(expression.encode()), {})
            else:
                methods = self._plain.setdefault(template.encode(), {})
                self._whole[template.encode()] = self._whole[b"/v1" + template.encode()] = methods
            methods[method] = Route(name, NO_ARGUMENTS)

    def find(self, method: str, path: bytes) -> Route:
        """Return the route. Raises `HTTPError`: 404 (``unknown_url``), 405 with ``Allow``."""
        methods = self._whole.get(path)
        if methods is not None and (route := methods.get(method)) is not None:
            return route
        short = path[3:] if path.startswith(b"/v1/") else path
        methods = self._plain.get(short)
        arguments: dict[str, str] | None = None
        if methods is None:
            for pattern, candidates in self._patterns.items():
                match = pattern.fullmatch(short)
                if match is not None:
                    methods = candidates
                    given = match.groupdict().items()
                    arguments = {name: unquote_to_bytes(value).decode("utf-8", "replace") for name, value in given}
                    break
        read_as = "GET" if method == "HEAD" else method
        route = None if methods is None else methods.get(read_as)
        if route is None:
            raise self._refusal(method, path, methods, self._name_of_other(read_as, short))
        return route if arguments is None else Route(route.operation, arguments)

    def _refusal(self, method: str, path: bytes, methods: dict[str, Route] | None, other: str) -> HTTPError:
        if methods is None or other:
            message = f"Unknown request URL: {method} {path[:200].decode('latin-1')}."
            if other:
                message += f" This server does not have the operation {other} of the API."
            return HTTPError(404, message, code="unknown_url")
        allowed = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
        return HTTPError(
            405,
            f"Not allowed to {method} on this URL.",
            code="method_not_allowed",
            fields=((b"allow", allowed.encode()),),
        )

    def _name_of_other(self, method: str, path: bytes) -> str:
        """Return the name of the operation of the API that is not served, or ``""``."""
        if self._others is None:
            self._others = Router(self._not_served)
        route = self._others._plain.get(path, {}).get(method)
        if route is not None:
            return route.operation
        patterns = self._others._patterns.items()
        found = (routes[method].operation for one, routes in patterns if method in routes and one.fullmatch(path))
        return next(found, "")
