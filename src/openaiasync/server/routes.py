"""From method and path to the handler of an operation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from .errors import HTTPError
from .operations import Handler

__all__ = ["Router"]


class Router:
    """Finds operations by paths like ``/models/{model}``, with or without ``/v1`` before them."""

    def __init__(self, operations: Iterable[tuple[str, str, Handler]]) -> None:
        self._plain: dict[bytes, dict[str, Handler]] = {}
        self._patterns: dict[re.Pattern[bytes], dict[str, Handler]] = {}
        for method, template, handler in operations:
            if "{" in template:
                expression = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
                methods = self._patterns.setdefault(re.compile(expression.encode()), {})
            else:
                methods = self._plain.setdefault(template.encode(), {})
            methods[method] = handler

    def find(self, method: str, path: bytes) -> tuple[Handler, dict[str, str]]:
        """The handler and the path's arguments, percent-decoded. Raises `HTTPError` (404, 405 with ``Allow``)."""
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
            raise HTTPError(404, f"There is nothing at {method} {shown}.", code="unknown_url")
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
            raise HTTPError(
                405, f"{method} is not allowed here.", code="method_not_allowed", fields=((b"allow", allowed.encode()),)
            )
        return handler, arguments
