"""An endpoint turns the parameters of one operation into a `Request` value, without I/O.

Sending the value is somebody else's business, so that the client, the bulk engine, the server and tests share it.
The rows themselves are generated (`endpoints.py`).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote, unquote

from ..model.omitted import is_omitted
from ..model.secrets import redacted
from ..policy.options import HOOK_NAMES, OPTION_NAMES, Hooks
from .encode import encode_json, encode_query, merge_queries

if TYPE_CHECKING:
    from ..http.multipart import BareText, Multipart

__all__ = ["BodyKind", "CodecName", "Endpoint", "Request", "apply_options", "nearest"]

CodecName = Literal["json", "page", "embeddings", "json_or_text", "text", "bytes", "audio", "none"]
"""What the answer of an operation is, and so which codec decodes it."""
BodyKind = Literal["none", "json", "multipart", "multipart-or-json"]
"""What the body of an operation is; ``"multipart-or-json"``: a form with files, and JSON without."""

_GIVEN = frozenset({str, list, dict})  # what nearly all required parameters are, and no marker for "not given" is
_UNSAFE_SEGMENTS = frozenset({"", ".", ".."})
_TEMPLATE = re.compile(r"\{(\w+)\}")

_UNSET: Any = object()


class Request:
    """One request as a value: what is asked of which operation, before anybody decided how to send it.

    `path` is relative to the API's base and holds the query; `body` is JSON bytes, a multipart value, or `None`.
    `headers` are the caller's extra header fields; a value that is omitted takes a default field away.
    """

    # What only some callers set has its default here, and costs the others nothing.
    timeout: Any = _UNSET
    deadline: Any = _UNSET
    max_retries: int | None = None
    response_format: str = ""
    """The one asked for, where the type of the answer depends on it."""
    unasked: tuple[str, ...] = ()
    """Fields of the body that the library added, and takes back where the server refuses them."""
    as_base64: bool = False
    """Vectors stay the text they came as: the caller named the format."""
    cast: Any = None
    """What makes the answer of a path that no endpoint names: a `Cast`."""
    texts: int = 0
    """How many texts are to be embedded; 0 where that is not known."""
    idempotency_key: str | None = None
    """Sent as ``Idempotency-Key`` with every attempt, so that a gateway that honours it runs the request once."""

    def __init__(self, endpoint: Endpoint, path: str, body: Any = None, stream: bool = False) -> None:
        self.endpoint: Endpoint = endpoint
        self.path: str = path
        self.body: Any = body
        self.stream: bool = stream
        self.headers: Mapping[str, Any] | None = None
        self.has_clocks: bool = False
        """Whether the caller named a `timeout` or a `deadline`."""
        self.hooks: Hooks | None = None
        """The caller's, for this call."""

    @property
    def has_timeout(self) -> bool:
        """Whether the caller named a `timeout` for this call (`None` counts: no limit)."""
        return self.timeout is not _UNSET

    @property
    def has_deadline(self) -> bool:
        """Whether the caller named a `deadline` for this call (`None` counts: no limit)."""
        return self.deadline is not _UNSET

    def __repr__(self) -> str:
        return f"<Request {self.endpoint.method} {redacted(self.path)}>"


def nearest(name: str, known: frozenset[str]) -> str:
    """A hint for a misspelt name, or nothing."""
    import difflib

    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


class Endpoint:
    """One operation of the API: its path, its parameters, what its answer is.

    Parameter names come as space-separated strings, because 288 rows are built at import and few are ever used.
    `type` and `event` name a type as ``"module:Name"`` below the package. `optional` ``"*"``: any parameter is taken;
    `query` ``"*"``: all of them go there. `header` pairs parameters with header fields. `parts` pairs fields of a form
    with media types of their own; `alone` is the one that is the whole body where no other is given. Tables are made at
    first use.
    """

    def __init__(
        self,
        name: str,
        method: str,
        path: str,
        *,
        required: str = "",
        optional: str = "",
        query: str = "",
        wire: str = "",
        body: BodyKind = "none",
        files: str = "",
        codec: CodecName = "json",
        type: str = "",
        page: str = "",
        event: str = "",
        headers: str = "",
        header: str = "",
        parts: str = "",
        alone: str = "",
        group: str = "",
    ) -> None:
        self.name = name
        self.method = method
        self.path = path
        self.body: BodyKind = body
        self.codec: CodecName = codec
        self.binary: bool = codec in ("bytes", "audio")  # the answer is a file or sound, and may be large
        self.type = type
        self.page = page
        self.event = event
        self.group = group
        self.admin: bool = name.startswith("admin.")  # such endpoints have a key of their own
        self.alone = alone
        self.loaded: dict[str, Any] = {}
        """Types by how `type` and `event` name them; a row made by hand may put one here that has no name."""
        self._names = (required, optional, query, wire, headers, files, header, parts)
        # Attributes of a class that has `__getattr__` cost twice as much, and every call asks for twenty of them.
        object.__setattr__(self, "__class__", _Unbuilt)

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}: {self.method} {self.path}>"

    def _build(self) -> None:
        required, optional, query, wire, headers, files, header, parts = self._names
        object.__setattr__(self, "__class__", Endpoint)
        self.path_params: tuple[str, ...] = tuple(_TEMPLATE.findall(self.path))
        self.required: tuple[str, ...] = tuple(required.split())
        self.known: frozenset[str] = frozenset(required.split()) | frozenset(optional.split())
        self.accepted: frozenset[str] = self.known | OPTION_NAMES
        self.open: bool = "*" in self.known  # an operation without a schema takes any parameters
        self.header: dict[str, str] = dict(_pair(item) for item in header.split())  # parameters that travel as fields
        self.query: frozenset[str] = frozenset(query.split())
        self.wire: dict[str, str] = dict(_pair(item) for item in wire.split())
        self.files: frozenset[str] = frozenset(files.split())  # fields, by wire name, that take files and no text
        self.parts: dict[str, str] = dict(_pair(item) for item in parts.split())
        self.static_headers: tuple[tuple[str, str], ...] = tuple(_pair(item) for item in headers.split("\n") if item)
        # Body parameters need no work of their own when nothing is renamed and nothing goes elsewhere.
        self.simple_body: bool = self.body == "json" and not (
            self.path_params or self.query or self.wire or self.header or self.codec == "json_or_text"
        )

    def load(self, where: str) -> Any:
        """The type that `type` or `event` names; imported at first use."""
        kind = self.loaded.get(where)
        if kind is None:
            module, _, name = where.partition(":")
            kind = self.loaded[where] = getattr(importlib.import_module(f"openaiasync.{module}"), name)
        return kind

    def check(self, params: Mapping[str, Any]) -> None:
        """`TypeError` for a parameter that is unknown or missing, naming it and the nearest name."""
        if not self.accepted.issuperset(params) and not self.open:
            name = min(params.keys() - self.accepted)
            raise TypeError(
                f"{self.name}() has no parameter {name!r}{nearest(name, self.accepted)} "
                "(what a provider adds goes through extra_body)"
            )
        for name in self.required:
            if params.get(name).__class__ not in _GIVEN and (name not in params or is_omitted(params[name])):
                raise TypeError(f"{self.name}() misses the required parameter {name!r}")

    def request(self, params: dict[str, Any], *, stream: bool | None = None) -> Request:
        """The `Request` for these parameters; `params` is not changed.

        Raises `TypeError` (unknown, missing or unencodable parameters) and `ValueError` (ids that are no path segment,
        numbers and texts that JSON cannot carry).
        """
        self.check(params)
        if self.simple_body and OPTION_NAMES.isdisjoint(params):
            # The usual case, and what `_general` would make of it.
            if stream is not None and not is_omitted(stream):
                params = {**params, "stream": stream}
            return Request(self, self.path, encode_json(params), bool(stream))
        return self._general(params, stream)

    def ids_in(self, path: str) -> dict[str, str]:
        """The ids in the path of a request, by the names of their parameters. (A gateway's own path may go before.)"""
        pairs = zip(reversed(self.path.split("/")), reversed(path.partition("?")[0].split("/")), strict=False)
        return {step[1:-1]: unquote(found) for step, found in reversed(list(pairs)) if step.startswith("{")}

    def _general(self, params: dict[str, Any], stream: bool | None) -> Request:
        options: dict[str, Any] | None = None
        if not OPTION_NAMES.isdisjoint(params):
            options = {name: params[name] for name in OPTION_NAMES if name in params}
            params = {name: value for name, value in params.items() if name not in OPTION_NAMES}
        path, query, fields = self.path, "", params
        if not self.simple_body:
            aside = {"stream": stream} if stream is not None and "stream" in self.query else {}
            path, query, fields = self._place({**params, **aside})
        extra = _mapping("extra_query", options.get("extra_query")) if options else None
        if extra:
            query = merge_queries(query, encode_query(extra.items()))
        if query:
            path = f"{path}{'&' if '?' in path else '?'}{query}"
        request = Request(self, path, None, bool(stream))
        if self.header:
            request.headers = self._head(params)
        extra = options and options.get("extra_body")
        request.body = self._encode(fields, extra, stream)
        if self.codec == "json_or_text":
            wanted: Mapping[str, Any] = _merge(params, extra) if isinstance(extra, Mapping) else params
            request.response_format = str(wanted.get("response_format") or "")
        if options:
            apply_options(request, options)
        return request

    def _place(self, params: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """Where each parameter goes: path with its ids, query string, fields of the body."""
        path = _TEMPLATE.sub(lambda match: _segment(self.name, match[1], params[match[1]]), self.path)
        wire = self.wire
        rest = {
            name: value for name, value in params.items() if name not in self.path_params and name not in self.header
        }
        asked = rest.keys() if "*" in self.query else self.query
        query = [(wire.get(name, name), value) for name, value in rest.items() if name in asked]
        fields = {wire.get(name, name): value for name, value in rest.items() if name not in asked}
        return path, encode_query(query), fields

    def _head(self, params: dict[str, Any]) -> dict[str, Any] | None:
        """The parameters that travel as header fields; several values are one list (RFC 9110, section 5.6.1)."""
        found: dict[str, Any] = {}
        for name, wire in self.header.items():
            value: Any = params.get(name)
            if value is not None and not is_omitted(value):
                found[wire] = value if isinstance(value, str) else ",".join(map(str, value))
        return found or None

    def _encode(self, fields: dict[str, Any], extra: Any, stream: bool | None) -> Any:
        if self.body == "none":
            if extra:
                return encode_json(extra)
            return None
        if stream is not None and not is_omitted(stream):
            fields = {**fields, "stream": stream}
        if extra is not None and not is_omitted(extra):
            fields = _merge(fields, extra)
        if self.body == "json":
            return encode_json(fields)
        form = self._form(fields)
        return form if self.body == "multipart" or form.uploads else encode_json(fields)

    def _form(self, fields: dict[str, Any]) -> Multipart | BareText:
        """The fields as a form; or the one that is sent bare."""
        from ..http.multipart import BareText, Multipart

        if not isinstance(fields, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # extra_body may be any
            raise TypeError(f"{self.name}(): extra_body is a mapping where files are uploaded")
        for name in self.files.intersection(self.required):
            if fields.get(name) is None:
                raise TypeError(f"{self.name}() misses the file {name!r}")
        if self.alone and {name for name, value in fields.items() if not is_omitted(value)} == {self.alone}:
            return BareText.of(self.alone, fields[self.alone], self.parts[self.alone])
        return Multipart.of(fields, self.files, self.parts)


class _Unbuilt(Endpoint):
    """An endpoint that nobody has used yet: it becomes an `Endpoint` when one of its tables is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._build()
        return getattr(self, name)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _merge(fields: dict[str, Any], extra: Any) -> Any:
    """The fields with those of `extra_body` in their place; anything but a mapping is sent instead of them."""
    return {**fields, **cast("Mapping[str, Any]", extra)} if isinstance(extra, Mapping) else extra


def _segment(operation: str, name: str, value: Any) -> str:
    """An id as one path segment (RFC 3986, section 3.3); `ValueError` where it would change the path."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise TypeError(f"{operation}(): {name} is a string, not {type(value).__name__}")
    text = str(value)
    if text in _UNSAFE_SEGMENTS:
        raise ValueError(f"{operation}(): Expected a non-empty value for `{name}` but received {text!r}")
    return quote(text, safe="!$&'()*+,;=:@-._~")


def _mapping(name: str, value: Any) -> Mapping[str, Any] | None:
    """An option that is a mapping, or `None`; the error does not quote it, since it may hold a key."""
    if value is None or is_omitted(value):
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping of names to values, not {type(value).__name__}")
    return cast("Mapping[str, Any]", value)


def apply_options(request: Request, options: Mapping[str, Any]) -> None:
    """Note the options of one call on its request; `TypeError` and `ValueError` for what they cannot be."""
    headers = _mapping("extra_headers", options.get("extra_headers"))
    if headers is not None:
        request.headers = {**request.headers, **headers} if request.headers else headers
    for name in ("timeout", "deadline"):
        value = options.get(name, _UNSET)
        if value is not _UNSET and not is_omitted(value):
            _check_seconds(name, value)
            setattr(request, name, value)
            request.has_clocks = True
    hooks = tuple(_hook(name, options.get(name)) for name in HOOK_NAMES)
    if any(hooks):
        request.hooks = hooks
    retries = options.get("max_retries")
    if retries is not None and not is_omitted(retries):
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise ValueError("max_retries is a whole number from 0 up")
        request.max_retries = retries


def _hook(name: str, value: Any) -> Any:
    if value is None or is_omitted(value):
        return None
    if not callable(value):
        raise TypeError(f"{name} is a function that takes an event, not {type(value).__name__}")
    return value


def _check_seconds(name: str, value: Any) -> None:
    if value is None or hasattr(value, "connect"):
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds or None, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} is a number of seconds above 0, not {value!r}")
