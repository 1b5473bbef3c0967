"""The stored form of a request, its canonical key, and the differences between two requests, without I/O.

Header fields, the order of JSON keys, multipart boundaries, file names and the base URL do not count, so that a
recording made with one client or version can be replayed to another.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ..core.http.request import authority
from ..core.model.plain import is_dict, is_list
from .base import Origin
from .scrubber import Scrubber

__all__ = ["VOLATILE", "Matching", "StoredRequest", "below_base", "diff_lines", "store_request"]

VOLATILE: Final = ("user", "metadata", "safety_identifier", "prompt_cache_key", "stream_options")
"""The fields that are ignored by default: they identify the user or ask for usage, and do not change the answer."""

_LARGE_TEXT: Final = 4096  # characters from which base64 within JSON is stored as its hash
_LARGE_BODY: Final = 64 * 1024  # bytes from which a body that is neither JSON nor a form is stored as its hash
_BASE64: Final = re.compile(r"(?:data:[^,]{0,200};base64,)?[A-Za-z0-9+/_-]+={0,2}")
_BOUNDARY: Final = re.compile(r'(?i)multipart/form-data\s*;.*?boundary=(?:"([^"]+)"|([^\s;]+))')
_DISPOSITION: Final = re.compile(rb'(?i)(?:^|\r\n)content-disposition:[^\r\n]*?;\s*name="?([^";\r\n]*)"?')
_FILE_NAME: Final = re.compile(rb'(?i);\s*filename="([^"\r\n]*)"')
_EXACT: Final = 2.0**53  # floats below this are exact integers

Normalize = Callable[[Any], Any]
"""A function that takes the JSON body of a request and returns what is compared; it must not change its argument."""


class StoredRequest(msgspec.Struct, omit_defaults=True):
    """A request as stored in a cassette: without header fields and secrets, with hashes in place of files."""

    method: str
    path: str
    """Below the base URL: ``/chat/completions``. The whole URL, without its query, for a request to another server."""
    query: list[tuple[str, str]] = []
    body: dict[str, Any] | None = None
    """One of ``{"json": value}``, ``{"form": [part, …]}``, ``{"text": "…"}``, ``{"sha256": "…", "size": n}``; `None`
    for an empty body. A part is ``{"name", "text"}`` or ``{"name", "file", "sha256", "size"}``."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def below_base(origin: Origin, target: str, base_urls: Sequence[str]) -> tuple[str, str]:
    """Return the path of a request below its base URL, and its query.

    The base URL is the first of `base_urls` that the request's URL begins with. If `base_urls` is empty, a leading
    ``/v1`` is removed. A request to any other server keeps its whole URL.
    """
    path, _, query = target.partition("?")
    if not base_urls:
        return path.removeprefix("/v1") if path.startswith("/v1/") else path, query
    for base in base_urls:
        parts = urlsplit(base)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        below = parts.path.rstrip("/")
        if (parts.scheme, parts.hostname, port) == tuple(origin) and path.startswith(below + "/"):
            return path[len(below) :], query
    return f"{origin.scheme}://{authority(*origin)}{path}", query


def store_request(
    method: str, path: str, query: str, content_type: str, body: bytes, scrubber: Scrubber
) -> StoredRequest:
    """Return a request in the form in which it is stored, without its secrets."""
    pairs = scrubber.query(parse_qsl(query, keep_blank_values=True))
    return StoredRequest(method, scrubber.text(path), pairs, _stored_body(content_type, body, scrubber))


def _stored_body(content_type: str, body: bytes, scrubber: Scrubber) -> dict[str, Any] | None:
    if not body:
        return None
    boundary = _BOUNDARY.match(content_type)
    if boundary is not None:
        parts = list(_parts(body, (boundary[1] or boundary[2]).encode()))
        if parts:
            return {"form": [_stored_part(scrubber, *part) for part in parts]}
    if body.lstrip()[:1] in (b"{", b"["):
        try:
            return {"json": _shortened(scrubber.value(msgspec.json.decode(body)))}
        except (ValueError, RecursionError):
            pass
    if len(body) < _LARGE_BODY:
        try:
            return {"text": scrubber.text(body.decode())}
        except UnicodeDecodeError:
            pass
    return _digest(body)


def _digest(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, str | None, bytes]]:
    """Yield name, file name and content of each part of a form (RFC 7578); nothing if the body is not a form."""
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:]:
        head, found, content = part.partition(b"\r\n\r\n")
        disposition = _DISPOSITION.search(head)
        if found and disposition is not None:
            file_name = _FILE_NAME.search(head)
            yield _decoded(disposition[1]), None if file_name is None else _decoded(file_name[1]), content


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _stored_part(scrubber: Scrubber, name: str, file_name: str | None, content: bytes) -> dict[str, Any]:
    if file_name is None:
        try:
            return {"name": name, "text": scrubber.text(content.decode())}
        except UnicodeDecodeError:
            file_name = ""
    return {"name": name, "file": scrubber.text(file_name), **_digest(content)}


def _shortened(value: Any) -> Any:
    """Return a JSON value with hashes in place of large base64 texts: images, sounds and files in messages."""
    if isinstance(value, str):
        if len(value) < _LARGE_TEXT or _BASE64.fullmatch(value) is None:
            return value
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()} ({len(value)} characters of base64)"
    if is_list(value):
        return [_shortened(one) for one in value]
    if is_dict(value):
        return {name: _shortened(one) for name, one in value.items()}
    return value


class Matching:
    """The rules by which requests are compared.

    `ignore` names fields that do not count, in JSON bodies, forms and queries; a dotted name addresses a nested field
    of a JSON body, in every item of the lists on its way. `normalize` may change a JSON body before it is compared.
    """

    def __init__(self, ignore: Collection[str] = VOLATILE, normalize: Normalize | None = None) -> None:
        """Create the rules. Raises `TypeError` if `ignore` is a single text."""
        if isinstance(ignore, str):
            raise TypeError(f"ignore is a list of names, not a text: [{ignore!r}]")
        self._names = frozenset(ignore)
        self._paths = [name.split(".") for name in ignore]
        self._normalize = normalize

    def canonical(self, request: StoredRequest) -> dict[str, Any]:
        """Return the parts of a request that are compared, as a JSON value."""
        query = sorted(pair for pair in map(list, request.query) if pair[0] not in self._names)
        return {"method": request.method, "path": request.path, "query": query, **self._body(request.body or {})}

    def key(self, request: StoredRequest) -> bytes:
        """Return the same bytes for requests that are the same."""
        return hashlib.blake2b(msgspec.json.encode(self.canonical(request), order="sorted"), digest_size=16).digest()

    def _body(self, body: dict[str, Any]) -> dict[str, Any]:
        if "json" in body:
            value = body["json"] if self._normalize is None else self._normalize(body["json"])
            value = _plain(value)
            if is_dict(value):
                # Clients differ in whether they send defaults.
                fields = value
                value = {k: v for k, v in fields.items() if v is not None and not (k == "stream" and v is False)}
            for path in self._paths:
                value = _without(value, path)
            return {"json": value}
        if "form" in body:
            parts = [_plain_part(part) for part in body["form"] if part.get("name") not in self._names]
            return {
                "form": sorted(parts, key=lambda part: str(part["name"]))
            }  # stable: a list's items keep their order
        return {name: body[name] for name in ("text", "sha256") if name in body}


def _plain_part(part: dict[str, Any]) -> dict[str, Any]:
    return {name: part.get(name) for name in ("name", "sha256" if "sha256" in part else "text")}


def _plain(value: Any) -> Any:
    """Return a JSON value in which equal numbers are written in the same way."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if is_list(value):
        return [_plain(one) for one in value]
    if is_dict(value):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _without(value: Any, path: list[str]) -> Any:
    """Return a JSON value without what is at this path; the lists on the way are walked through."""
    if is_list(value):
        return [_without(one, path) for one in value]
    if not is_dict(value):
        return value
    fields = value
    name, rest = path[0], path[1:]
    if name not in fields:
        return fields
    if not rest:
        return {key: one for key, one in fields.items() if key != name}
    return {key: _without(one, rest) if key == name else one for key, one in fields.items()}


# ------------------------------------------------------------------------------------------------ differences


def difference(one: Any, two: Any) -> int:
    """Return the number of leaves in which two JSON values differ, the distance between two requests."""
    return len(set(_leaves(one)) ^ set(_leaves(two)))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if is_dict(value):
        for name, one in value.items():
            yield from _leaves(one, f"{path}/{name}")
    elif is_list(value):
        for number, one in enumerate(value):
            yield from _leaves(one, f"{path}/{number}")
    else:
        yield path, repr(value)


def diff_lines(wanted: Any, got: Any, limit: int = 80) -> list[str]:
    """Return the lines in which two values differ when written as indented JSON, with three lines of context.

    ``- `` marks a line of `wanted`, ``+ `` a line of `got`. At most `limit` lines are returned, and long lines are cut.
    """
    one, two = (json.dumps(value, indent=2, ensure_ascii=False, default=repr).splitlines() for value in (wanted, got))
    lines = list(difflib.unified_diff(one, two, n=3, lineterm=""))[3:]
    shown = ["..." if line.startswith("@@") else _cut(f"{line[0]} {line[1:]}") for line in lines[:limit]]
    return [*shown, f"... ({len(lines) - limit} more lines)"] if len(lines) > limit else shown


def _cut(line: str, limit: int = 400) -> str:
    return line if len(line) <= limit else f"{line[:limit]}... ({len(line):,} characters)"
