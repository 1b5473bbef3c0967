"""Requests to paths without a method: ``client.get("/path", cast_to=...)``, as in the official client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

from msgspec.structs import replace

from ..core.codec.encode import encode_json, encode_query
from ..core.codec.endpoint import (
    BodyKind,
    Endpoint,
    Request,
    apply_options,
)
from ..core.model.omitted import is_omitted
from ..core.model.secrets import HiddenFields
from ..core.policy.request_options import OPTION_NAMES
from ..engine import AsyncCursorPage, Engine, Paginator
from ..engine.raw import RawViews, decode_as
from ..engine.sealing import seal
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from ..core.http.multipart import Multipart

__all__ = ["HTTPMethods"]

T = TypeVar("T")


_PATH_SAFE = "!$%&'()*+,/:;=?@[]~"


def _row(method: str, path: str, body: BodyKind, event_type: Any) -> Endpoint:
    """An operation known by its path alone; `event_type` is the type of its stream's events."""
    event = f":{_name(event_type)}"
    row = Endpoint(f"{method.lower()} {path}", method, path, body=body, codec="bytes", event=event)
    row.loaded[event] = event_type
    return row


def _name(event_type: Any) -> str:
    return str(getattr(event_type, "__name__", "stream"))


class HTTPMethods(RawViews):
    """The HTTP methods."""

    async def get(self, path: str, *, cast_to: type[T], options: Mapping[str, Any] | None = None, **stream: Any) -> T:
        """``GET`` a path below the API base and return the answer as `cast_to`.

        `cast_to` is the class of an answer, read leniently; your own type (a pydantic model, a dataclass, a
        ``TypedDict``, a ``Struct``, ``list[int]``, …), validated strictly; ``dict``, ``list``, ``int``, ``bool``;
        ``str`` or ``bytes`` for the body unchanged; ``object`` or ``Any`` for any JSON; ``type(None)`` for nothing.
        `options` holds ``headers``, ``params`` (query), ``extra_json``, ``idempotency_key``, ``follow_redirects``,
        ``security`` (``{"admin_api_key_auth": True}``: that key), and the per-call options (``timeout``, …). With
        ``stream=True, stream_cls=AsyncStream[Event]`` the answer is an open stream. Raises `ValueError` for a URL in
        place of a path, `TypeError` for an unknown option or an unsupported type, and `OpenAIError`,
        `APIResponseValidationError` among them for an answer that does not fit `cast_to`.
        """
        options = HiddenFields(options or {})  # may hold a key, and this frame is in every traceback
        answer: T = await self._verb("GET", path, cast_to, None, options, **stream)
        return answer

    async def post(
        self, path: str, *, cast_to: type[T], body: Any = None, options: Mapping[str, Any] | None = None, **sent: Any
    ) -> T:
        """``POST`` a path below the API base, with `body` as JSON; see `get`.

        Instead of `body`, ``content=`` sends bytes, text, an open file or an asynchronous iterable of bytes unchanged;
        ``files=``, files by name, are sent as a form with the fields of `body`.
        """
        options = HiddenFields(options or {})  # may hold a key, and this frame is in every traceback
        answer: T = await self._verb("POST", path, cast_to, body, options, **sent)
        return answer

    async def put(
        self,
        path: str,
        *,
        cast_to: type[T],
        body: Any = None,
        options: Mapping[str, Any] | None = None,
        **sent: Any,
    ) -> T:
        """``PUT`` a path below the API base, with `body` as JSON; see `get`."""
        options = HiddenFields(options or {})  # may hold a key, and this frame is in every traceback
        answer: T = await self._verb("PUT", path, cast_to, body, options, **sent)
        return answer

    async def patch(
        self,
        path: str,
        *,
        cast_to: type[T],
        body: Any = None,
        options: Mapping[str, Any] | None = None,
        **sent: Any,
    ) -> T:
        """``PATCH`` a path below the API base, with `body` as JSON; see `get`."""
        options = HiddenFields(options or {})  # may hold a key, and this frame is in every traceback
        answer: T = await self._verb("PATCH", path, cast_to, body, options, **sent)
        return answer

    async def delete(
        self,
        path: str,
        *,
        cast_to: type[T],
        body: Any = None,
        options: Mapping[str, Any] | None = None,
        **sent: Any,
    ) -> T:
        """``DELETE`` a path below the API base; see `get`."""
        options = HiddenFields(options or {})  # may hold a key, and this frame is in every traceback
        answer: T = await self._verb("DELETE", path, cast_to, body, options, **sent)
        return answer

    def get_api_list(
        self, path: str, *, model: type[T], page: Any = AsyncCursorPage, options: Mapping[str, Any] | None = None
    ) -> Paginator[T, Any]:
        """``GET`` a list below the API base: await it for a page, iterate it for all items; `page` is their class."""
        name = page.__name__.removeprefix("Async")
        path = _encoded(path)
        row = Endpoint(f"get {path}", "GET", path, optional="after page", query="after page", codec="page", page=name)
        row.loaded[row.type] = model
        return Paginator(self._calls, row, _as_options(options))

    async def _verb(self, method: str, path: str, cast_to: Any, body: Any, given: HiddenFields, **stream: Any) -> Any:
        try:
            return await self._send(method, path, cast_to, body, given, **stream)
        except BaseException as error:
            seal(error)
            raise

    async def _send(
        self,
        method: str,
        path: str,
        cast_to: Any,
        body: Any,
        options: Mapping[str, Any],
        stream: bool = False,
        stream_cls: Any = None,
        content: Any = None,
        files: Any = None,
    ) -> Any:
        if not path.startswith("/"):
            if "://" in path:
                raise ValueError(
                    "the path is below the API base, not a URL; use with_options(api_base=...) for another base"
                )
            path = f"/{path}"
        path = _encoded(path)
        from ..engine.cast import cast_for

        calls = self._calls
        into = None if stream else cast_for(type(None) if cast_to is None else cast_to)
        events = getattr(stream_cls, "__args__", (None,))[0] if stream_cls is not None else cast_to
        row = _row(method, path, "none" if body is None else "json", events)
        given = _as_options(options)
        calls = _special(calls, row, given)
        request = _request(row, path, None if files else body, given, stream)
        if files:
            request.body = _form(body, files)
        if content is not None and not is_omitted(content):
            from ..engine.uploads import raw_body  # not needed for JSON

            request.body = raw_body(content)
        if calls.config.placing is not None:
            model = cast("Mapping[str, Any]", body).get("model") if isinstance(body, Mapping) else None
            request.path = calls.config.placing.path(request.path, model)
        if stream:
            return await calls.open(request)
        request.cast = into
        if calls.raw:
            return await calls.answer(request)
        meta, raw = await calls.fetch(request)
        return decode_as(calls, request, meta, raw, None)


def _special(calls: Engine, row: Endpoint, options: dict[str, Any]) -> Engine:
    """Return the options about the call itself: the key that is sent, and whether redirects are followed."""
    security: Mapping[str, Any] = options.pop("security", None) or {}
    if security.get("admin_api_key_auth"):
        if calls.config.admin_key is None:
            raise TypeError("Could not resolve authentication method: admin_api_key is needed, and not set")
        row.admin = True
    if options.pop("follow_redirects", None) is False:
        return calls.under(replace(calls.config, max_redirects=0))
    return calls


def _form(body: Any, files: Any) -> Multipart:
    """Return the form of a body's fields and files by name (a mapping, or pairs, which may repeat a name)."""
    from ..core.http.multipart import Multipart  # as above

    fields: dict[str, Any] = dict(body or {})
    named: dict[str, list[Any]] = {}
    pairs: Iterable[tuple[str, Any]] = files.items() if hasattr(files, "items") else files
    for name, file in pairs:
        named.setdefault(name.removesuffix("[]"), []).append(file)
    fields.update({name: several[0] if len(several) == 1 else several for name, several in named.items()})
    return Multipart.of(fields, named.keys())


def _as_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a call's options by this library's names, given the official ones."""
    words = {"headers": "extra_headers", "params": "extra_query", "extra_json": "extra_body"}
    taken = {words.get(name, name): value for name, value in (options or {}).items() if not is_omitted(value)}
    if (key := taken.pop("idempotency_key", None)) is not None:
        taken["extra_headers"] = {"Idempotency-Key": key, **(taken.get("extra_headers") or {})}
    unknown = taken.keys() - OPTION_NAMES - {"follow_redirects", "security"}
    if unknown:
        raise TypeError(f"options has no {min(unknown)!r}")
    return taken


def _encoded(path: str) -> str:
    """Return a path, with or without a query, for a request line: blanks, line ends and similar characters encoded."""
    return quote(path, safe=_PATH_SAFE)


def _request(row: Endpoint, path: str, body: Any, options: dict[str, Any], stream: bool) -> Request:
    query = options.get("extra_query")
    if query:
        path = f"{path}{'&' if '?' in path else '?'}{encode_query(query.items())}"
    request = Request(row, path, None, stream)
    extra = options.get("extra_body")
    if isinstance(body, Mapping) and isinstance(extra, Mapping):
        body = {**cast("Mapping[str, Any]", body), **cast("Mapping[str, Any]", extra)}
    if body is not None:
        request.body = body if isinstance(body, bytes) else encode_json(body)
    apply_options(request, options)
    return request


resolve_annotations(__name__)
