"""A request as a curl command that holds no secret, to be pasted into a shell (POSIX)."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from .secrets import HIDDEN, redacted

if TYPE_CHECKING:
    from .meta import RequestInfo

__all__ = ["curl"]

KEY = "$OPENAI_API_KEY"
LARGEST = 100_000  # bytes of a body in the command: Linux takes 131,071 in one argument
_KEY_FIELDS = frozenset({"authorization", "api-key", "x-api-key"})
_PLAIN = re.compile(r"[A-Za-z0-9 :_-]*")


def curl(request: RequestInfo) -> str:
    """The command, an option on each line.

    The key is ``$OPENAI_API_KEY``, to be set in the shell; other header fields that may be secret, and such values in
    the URL, read ``[redacted]``. A body that is large, no text, or an upload is taken from standard input, which a
    comment at the end says.
    """
    url, parts, flags = redacted(request.url), list[str](), "-sS"
    for name, value in request.headers.raw_pairs():
        field = (name.lower(), value)
        if field == ("accept", "text/event-stream"):
            flags += "N"
        if field[0] == "accept-encoding":  # curl has to know that it is to decode
            parts.append("--compressed")
        else:
            parts.append(f"-H {shlex.quote(f'{name}: {value}' if value else f'{name};')}")
    parts += [f"-H {_hidden(name, scheme)}" for name, scheme in request.hidden]
    data, comment = _body(request)
    if data:
        parts.append(data)
    if set("[]{}") & set(url):  # patterns to curl
        flags += "g"
    method = f" -X {shlex.quote(request.method)}" if request.method != ("POST" if data else "GET") else ""
    return " \\\n  ".join([f"curl {flags}{method} {shlex.quote(url)}", *parts]) + comment


def _hidden(name: str, scheme: str) -> str:
    """A field whose value is not shown."""
    if name.lower() not in _KEY_FIELDS:
        return shlex.quote(f"{name}: {HIDDEN}")
    text = f"{name}: {scheme} " if scheme else f"{name}: "
    return f'"{text}{KEY}"' if _PLAIN.fullmatch(text) else f'{shlex.quote(text)}"{KEY}"'


def _body(request: RequestInfo) -> tuple[str, str]:
    """The option that gives the body, and what a comment says of it."""
    content = request.content
    if request.upload:
        return "--data-binary @-", "  # the upload is read from standard input"
    if not content:
        return "", ""
    if len(content) <= LARGEST and b"\0" not in content:
        try:
            # A leading @ would name a file.
            text = content.decode()
            return f"--data-{'raw' if text.startswith('@') else 'binary'} {shlex.quote(text)}", ""
        except UnicodeDecodeError:
            pass
    return "--data-binary @-", f"  # the body of {len(content):,} bytes is read from standard input"
