"""Endpoints: the parameters of one operation become a `Request` value, without I/O.

Nothing here sends anything, so that the client, the bulk engine, the server and tests share it. The endpoints of the
API are generated (`endpoints.py`).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote, unquote

import msgspec

from ...lazy import resolve_annotations
from ..model.omitted import is_omitted
from ..model.secrets import redacted
from ..policy.request_options import HOOK_NAMES, OPTION_NAMES, Hooks
from .encode import encode_json, encode_query, merge_queries

if TYPE_CHECKING:
    from ..http.multipart import BareText, Multipart

__all__ = ["SYSTEM_NAMES", "BodyKind", "CodecName", "Endpoint", "Request", "apply_options", "nearest"]

CodecName = Literal["json", "page", "embeddings", "json_or_text", "text", "bytes", "audio", "none"]
"""The kind of an operation's answer, which determines its codec."""
BodyKind = Literal["none", "json", "multipart", "multipart-or-json"]
"""The body of an operation; ``"multipart-or-json"``: a form if there are files, else JSON."""

# types of nearly all required parameters; no marker for "not given" has one of them
_GIVEN = frozenset({str, list, dict})
_UNSAFE_SEGMENTS = frozenset({"", ".", ".."})
_TEMPLATE = r"\{(\w+)\}"

_UNSET: Any = msgspec.UNSET


class Request(msgspec.Struct, eq=False, weakref=True):
    """One request of an operation as a value, independent of the way it is sent.

    `path` is relative to the API's base and holds the query; `body` is JSON bytes, a multipart value, or `None`.
    `headers` are the caller's extra header fields; an omitted value removes a default field.

    (A Struct, since one is made for every call: its constructor is not a Python function.)
    """

    endpoint: Endpoint
    path: str
    body: Any = None
    stream: bool = False
    headers: Mapping[str, Any] | None = None
    has_clocks: bool = False
    """Whether the caller named a `timeout` or a `deadline`."""
    hooks: Hooks | None = None
    """The caller's hooks for this call."""
    timeout: Any = _UNSET
    deadline: Any = _UNSET
    max_retries: int | None = None
    response_format: str = ""
    """The requested format, if the type of the answer depends on it."""
    unasked: tuple[str, ...] = ()
    """Fields of the body that the library added, and removes if the server refuses them."""
    as_base64: bool = False
    """Whether vectors stay base64 text, since the caller requested that format."""
    cast: Any = None
    """The decoder of the answer (a `Cast`) for a path without an endpoint."""
    texts: int = 0
    """The number of texts to be embedded; 0 if unknown."""
    idempotency_key: str | None = None
    """Sent as ``Idempotency-Key`` with every attempt, so that a gateway that honours it runs the request once."""

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


SYSTEM_NAMES = frozenset({"system", "system_prompt", "system_message", "instructions"})
"""Names of the system prompt in other libraries."""
_TEXTS = frozenset({"prompt", "input", "text", "texts", "content", "message", "messages", "question", "query"})
_TEXT_PARAMETERS = ("messages", "input", "prompt")
_ELSEWHERE = {  # keywords of other methods of chat models
    **dict.fromkeys(("image", "images"), "use client.vision(image, text), or images= of a session's say()"),
    **dict.fromkeys(
        ("into", "schema", "response_model", "output_type", "text_format"), "use client.chat.parse(..., into=...)"
    ),
}
_LIMITS = frozenset({"max_inflight", "max_in_flight", "max_concurrency", "max_concurrent", "concurrency"})
_CLIENT_OPTIONS = frozenset({"api_key", "api_base", "base_url", "http_timeout", "http_stall_timeout", "http_deadline"})


def nearest(name: str, known: frozenset[str]) -> str:
    """Return a hint with the nearest known name, or ""."""
    import difflib

    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


class Endpoint:
    """One operation of the API: its path, its parameters, the type of its answer.

    Parameter names are space-separated strings, because 288 endpoints are built at import and few are ever used; their
    tables are made at first use. `type` and `event` name a type as ``"module:Name"`` below the package. `optional`
    ``"*"``: any parameter is accepted; `query` ``"*"``: all of them go there. `header` pairs parameters with header
    fields. `parts` pairs fields of a form with their media types; `alone` is the field that is the whole body if it is
    the only one. `default_of` names the methods whose default model is used where the caller gives none, the first that
    has one; `names_model` is a parameter that replaces the model.
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
        default_of: str = "",
        names_model: str = "",
    ) -> None:
        self.name = name
        self.method = method
        self.path = path
        self.body: BodyKind = body
        self.codec: CodecName = codec
        self.binary: bool = codec in ("bytes", "audio")  # the answer is a file or audio, which may be large
        self.type = type
        self.page = page
        self.event = event
        self.group = group
        self.default_of: tuple[str, ...] = tuple(default_of.split()) if default_of else ()
        self.names_model = names_model
        self.admin: bool = name.startswith("admin.")  # these use the admin key
        self.alone = alone
        self.loaded: dict[str, Any] = {}
        """Types by their name in `type` and `event`; an endpoint made by hand may add one without a name."""
        self._names = (required, optional, query, wire, headers, files, header, parts)
        # Attribute access costs twice as much in a class with `__getattr__`, and every call reads twenty attributes.
        object.__setattr__(self, "__class__", _Unbuilt)

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}: {self.method} {self.path}>"

    def _build(self) -> None:
        required, optional, query, wire, headers, files, header, parts = self._names
        object.__setattr__(self, "__class__", Endpoint)
        self.path_params: tuple[str, ...] = tuple(re.findall(_TEMPLATE, self.path)) if "{" in self.path else ()
        self.required: tuple[str, ...] = tuple(required.split())
        self.known: frozenset[str] = frozenset(required.split()) | frozenset(optional.split())
        self.accepted: frozenset[str] = self.known | OPTION_NAMES
        self.open: bool = "*" in self.known  # an operation without a schema accepts any parameters
        self.header: dict[str, str] = dict(_pair(item) for item in header.split())  # parameters that travel as fields
        self.query: frozenset[str] = frozenset(query.split())
        self.wire: dict[str, str] = dict(_pair(item) for item in wire.split())
        self.files: frozenset[str] = frozenset(files.split())  # fields, by wire name, that take files only
        self.parts: dict[str, str] = dict(_pair(item) for item in parts.split())
        self.static_headers: tuple[tuple[str, str], ...] = tuple(_pair(item) for item in headers.split("\n") if item)
        # Body parameters are encoded at once if none is renamed and none goes elsewhere.
        self.simple_body: bool = self.body == "json" and not (
            self.path_params or self.query or self.wire or self.header or self.codec == "json_or_text"
        )

    def load(self, where: str) -> Any:
        """Return the type that `type` or `event` names, imported at first use."""
        kind = self.loaded.get(where)
        if kind is None:
            module, _, name = where.partition(":")
            kind = self.loaded[where] = getattr(importlib.import_module(f"openaiasync.{module}"), name)
        return kind

    def check(self, params: Mapping[str, Any]) -> None:
        """Raise `TypeError` for an unknown or missing parameter, with the nearest known name."""
        if not self.accepted.issuperset(params) and not self.open:
            name = min(params.keys() - self.accepted)
            raise TypeError(f"{self.shown} has no parameter {name!r}{self.advice(name)}")
        for name in self.required:
            if params.get(name).__class__ not in _GIVEN and (name not in params or is_omitted(params[name])):
                default = name == "model" and self.default_of
                advice = "; name one, or a default for all calls: Client(model=...)" if default else ""
                raise TypeError(f"{self.shown} is missing the required parameter {name!r}{advice}")

    @property
    def shown(self) -> str:
        """The methods that a caller may have used: the client's own, and the official one."""
        return f"client.{self.group}() or {self.name}()" if self.group else f"{self.name}()"

    def advice(self, name: str) -> str:
        """Return what to write instead of an unknown parameter, as the end of a sentence."""
        chat = "messages" in self.accepted
        if name in SYSTEM_NAMES and chat:
            return '; put {"role": "system", "content": ...} first into the messages, or use a session(system=...)'
        if name in SYSTEM_NAMES and "instructions" in self.accepted:
            return "; did you mean 'instructions'?"
        if name in _TEXTS and (main := next((one for one in _TEXT_PARAMETERS if one in self.accepted), None)):
            return f"; the text is {f'the first argument of client.{self.group}()' if self.group else f'{main}='}"
        if chat and name in _ELSEWHERE:
            return f"; {_ELSEWHERE[name]}"
        if name in _LIMITS:
            return "; it is max_in_flight in client.map(), and http_max_in_flight in Client()"
        if name in _CLIENT_OPTIONS:
            return f"; it is an option of the client: client.with_options({name}=...)"
        return f"{nearest(name, self.accepted)} (pass parameters of other providers in extra_body)"

    def request(self, params: dict[str, Any], *, stream: bool | None = None) -> Request:
        """Return the `Request` for these parameters; `params` is not changed.

        Raises `TypeError` for unknown, missing or unencodable parameters, and `ValueError` for ids that are not a path
        segment, and for numbers and texts that JSON cannot carry.
        """
        self.check(params)
        if self.simple_body and OPTION_NAMES.isdisjoint(params):
            # The fast path for most calls, with the same result as `_general`: sorting parameters into path, query,
            # header fields and body would add about 10 µs to the 50 that a small call takes.
            if stream is not None and not is_omitted(stream):
                params = {**params, "stream": stream}
            return Request(self, self.path, encode_json(params), bool(stream))
        return self._general(params, stream)

    def ids_in(self, path: str) -> dict[str, str]:
        """Return the ids in a request's path by parameter name. (The path may begin with a gateway's own.)"""
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
        """Return the path with its ids, the query string, and the fields of the body."""
        path = re.sub(_TEMPLATE, lambda match: _segment(self.name, match[1], params[match[1]]), self.path)
        wire = self.wire
        rest = {
            name: value for name, value in params.items() if name not in self.path_params and name not in self.header
        }
        in_query = rest.keys() if "*" in self.query else self.query
        query = [(wire.get(name, name), value) for name, value in rest.items() if name in in_query]
        fields = {wire.get(name, name): value for name, value in rest.items() if name not in in_query}
        return path, encode_query(query), fields

    def _head(self, params: dict[str, Any]) -> dict[str, Any] | None:
        """Return the parameters sent as header fields; several values form a list (RFC 9110, 5.6.1)."""
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
        """Return the fields as a form, or the one that is sent without a form."""
        from ..http.multipart import BareText, Multipart

        if not isinstance(fields, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # extra_body may be any
            raise TypeError(f"{self.name}(): extra_body must be a mapping if files are uploaded")
        for name in self.files.intersection(self.required):
            if fields.get(name) is None:
                raise TypeError(f"{self.name}() is missing the file {name!r}")
        if self.alone and {name for name, value in fields.items() if not is_omitted(value)} == {self.alone}:
            return BareText.of(self.alone, fields[self.alone], self.parts[self.alone])
        return Multipart.of(fields, self.files, self.parts)


class _Unbuilt(Endpoint):
    """An unused endpoint, which becomes an `Endpoint` at the first access to one of its tables."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._build()
        return getattr(self, name)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _merge(fields: dict[str, Any], extra: Any) -> Any:
    """Return the fields updated by `extra_body`; a value other than a mapping replaces all of them."""
    return {**fields, **cast("Mapping[str, Any]", extra)} if isinstance(extra, Mapping) else extra


def _segment(operation: str, name: str, value: Any) -> str:
    """Return an id as one path segment (RFC 3986, 3.3). Raises `ValueError` if it would change the path."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise TypeError(f"{operation}(): {name} must be a string, not {type(value).__name__}")
    text = str(value)
    if text in _UNSAFE_SEGMENTS:
        raise ValueError(f"{operation}(): Expected a non-empty value for `{name}` but received {text!r}")
    return quote(text, safe="!$&'()*+,;=:@-._~")


def _mapping(name: str, value: Any) -> Mapping[str, Any] | None:
    """Return an option that is a mapping or `None`.

    The error for any other value does not quote it: it may hold a key.
    """
    if value is None or is_omitted(value):
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of names to values, not {type(value).__name__}")
    return cast("Mapping[str, Any]", value)


def apply_options(request: Request, options: Mapping[str, Any]) -> None:
    """Set the options of one call on its request. Raises `TypeError` and `ValueError` for invalid ones."""
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
            raise ValueError("max_retries must be a whole number, at least 0")
        request.max_retries = retries


def _hook(name: str, value: Any) -> Any:
    if value is None or is_omitted(value):
        return None
    if not callable(value):
        raise TypeError(f"{name} must be a function that takes an event, not {type(value).__name__}")
    return value


def _check_seconds(name: str, value: Any) -> None:
    if value is None or hasattr(value, "connect"):
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}")


resolve_annotations(__name__)
