"""The public errors of failed calls, chosen by cause, never by text; with URL, attempts and time, without secrets.

All errors about a server's response are made here, from its raw bytes. The secrets of the attempt
(`RequestInfo.secrets`) are redacted twice: before the message quotes a part of the body, and in the finished error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args, get_origin

from ..core.codec.decode import DecodeError
from ..core.model.base import BaseModel, OpenModel
from ..core.model.lenient import is_struct
from ..core.model.meta import Meta, RequestInfo, ResponseInfo
from ..core.model.plain import mended_json
from ..core.policy.retry import retryable_status
from ..errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    IncompleteStreamError,
    InFlightError,
    OpenAIError,
    status_error,
)
from ..lazy import json, resolve_annotations
from .sealing import cleaned_error

if TYPE_CHECKING:
    from ..core.codec.error_body import ErrorDetails
    from ..transport.base import TransportError

__all__ = [
    "error_object",
    "from_transport",
    "invalid_answer",
    "refused",
    "refused_redirect",
    "status_failure",
    "stream_error",
    "undecodable",
]

E = TypeVar("E", bound=OpenAIError)

ERROR = "an error"  # the reason to reject an answer that is an error object

# Codes and types of transient errors: of OpenAI, Anthropic, and gateways.
_PASSING = frozenset(
    {"server_error", "internal_error", "internal_server_error", "internalservererror", "api_error", "overloaded",
     "overloaded_error", "engine_overloaded", "engine_overloaded_error", "server_overloaded", "rate_limit_exceeded",
     "rate_limit_error", "rate_limit_reached_error", "too_many_requests", "timeout", "timeout_error", "request_timeout",
     "service_unavailable", "service_unavailable_error", "serviceunavailable", "bad_gateway", "gateway_timeout",
     "upstream_error", "vector_store_timeout"}
)  # fmt: skip
_LARGEST_PARSED = 1 << 20  # bytes of a body that is parsed to redact its secrets
_LONGEST_TEXT = 500  # characters of a server's message that an error quotes

_CLOCKS = {
    "queue": "no connection was free within {seconds:g} s; nothing was sent",
    "connect": "no connection within {seconds:g} s",
    "start": "no answer started within {seconds:g} s",
    "stall": "the answer made no progress for {seconds:g} s",
    "deadline": "the deadline of {seconds:g} s passed",
}
_ADVICE = {
    "queue": "http_max_connections_per_host sets their number",
    "connect": "is the server there? http_connect_timeout sets how long to try",
    "start": "a slow model needs a larger http_timeout, or .stream, which shows its first words early",
    "stall": "http_stall_timeout sets how long a pause may be",
    "deadline": "http_deadline or deadline= sets it",
}


def timeout_message(clock: str, seconds: float) -> str:
    return f"{_CLOCKS[clock].format(seconds=seconds)}; {_ADVICE[clock]}"


def _spent(tries: int, elapsed: float) -> str:
    return f"after {tries} {'try' if tries == 1 else 'tries'}, {elapsed:.1f} s"


def _finish(error: E, request: RequestInfo, tries: int, elapsed: float) -> E:
    error.tries = tries
    error.elapsed = elapsed
    return cleaned_error(error, request.secrets)


def _of_answer(error: E, meta: Meta) -> E:
    """Return the error, completed with the metadata of its answer."""
    error.meta = meta
    return _finish(error, meta.request, meta.tries, meta.total)


def _cleaned(meta: Meta, raw: bytes) -> bytes:
    """Return a body with echoed secrets redacted."""
    secrets = meta.request.secrets
    raw = secrets.scrub_cut(raw)
    if len(raw) > _LARGEST_PARSED:
        return raw
    try:
        body: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    clean = secrets.clean(body)
    return raw if clean is body else json.dumps(clean).encode()  # JSON may write any character as an escape


def from_transport(
    failure: TransportError, request: RequestInfo, tries: int, elapsed: float, clock: str | None, seconds: float
) -> OpenAIError:
    """Return the public error for a failed exchange. `clock` is the public name of the timeout that expired, if any."""
    where = f"{request.method} {request.url}"
    spent = _spent(tries, elapsed)
    error: OpenAIError
    if failure.kind == "closed":
        error = ClientClosedError(f"{where}: the client was closed while the call was under way")
    elif failure.kind == "stuck":
        error = InFlightError(f"{where}: {failure.message}")
    elif clock is not None:
        # A timeout of the caller's own HTTP client: its length is unknown here.
        explained = failure.by_caller or failure.__cause__ is not None
        words = failure.message if explained else timeout_message(clock, seconds)
        error = APITimeoutError(request, message=f"{where}: {words} ({spent})", clock=clock)
    else:
        error = APIConnectionError(
            message=f"{where}: {failure.message}{_other_scheme(failure, request)} ({spent})", request=request
        )
        error.retryable = failure.kind not in ("protocol", "tls")
        if failure.kind == "protocol":
            error.side = "server"
    error.sent = failure.sent
    if failure.__cause__ is not None:  # the exception of the operating system, or of a caller's own HTTP client
        error.__cause__ = failure.__cause__
    return _finish(error, request, tries, elapsed)


def _other_scheme(failure: TransportError, request: RequestInfo) -> str:
    """Return a hint if a server closed a new connection without a byte: many that speak TLS do so on plain HTTP."""
    silent = failure.kind in ("eof", "reset") and not failure.answered and not failure.reused and failure.sent
    return "; if it speaks TLS, its URL begins with https://" if silent and request.base.startswith("http://") else ""


def error_object(body: Any) -> Any:
    """Return `APIError.body` for a parsed body: the error object in it, as the official client does, or all of it."""
    if not isinstance(body, dict):
        return body
    fields = cast("dict[str, Any]", body)
    inner: Any = fields.get("error")
    return fields if inner is None else inner


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def with_words(text: str, details: ErrorDetails) -> str:
    """Return the text, followed by the server's message."""
    return f"{text}: {_short(details.message)}" if details.message else text


_OPERATION = (
    "chat/completions|completions|responses|embeddings|moderations|models|images/(?:generations|edits|variations)"
    "|audio/(?:speech|transcriptions|translations)"
)
_TWICE = re.compile(f"(?P<prefix>.*?)/(?:{_OPERATION})/(?:{_OPERATION})(?:/|$)")


def _wrong_base(request: RequestInfo) -> str:
    """Return a hint if the API base ends with an operation's path, or has no version, as most servers' bases have."""
    path = request.target.partition("?")[0]
    if twice := _TWICE.match(path):
        prefix = twice["prefix"]
        base = f"{request.base}{prefix if re.search(r'/v[0-9]', prefix) else f'{prefix}/v1'}"
        return f"; the API base ends with the path of an operation: shorten it to {base}"
    if repeated := re.match(r"(?P<base>.*?(?P<version>/v\d\w*))(?P=version)/", path):
        return f"; the API base repeats its version: shorten it to {request.base}{repeated['base']}"
    if re.search(r"/v\d", path):
        return ""
    return f"; does the API base lack /v1, as in {request.base}/v1?"


def status_failure(meta: Meta, raw: bytes, tries: int, elapsed: float) -> APIStatusError:
    """Return the error for a response with an error status and the part of its body that was read."""
    from ..core.codec.error_body import parse_error, read_error  # only errors need it

    raw = _cleaned(meta, raw)
    response = ResponseInfo(meta.status, meta.headers, meta.request, raw)
    body = meta.request.secrets.clean(parse_error(raw))
    details = read_error(body)
    text = with_words(f"{meta.status} from {meta.request.method} {meta.url}", details)
    if meta.status in (404, 405):
        text = f"{text}{_wrong_base(meta.request)}"
    text = f"{text} ({_spent(tries, elapsed)})"
    error = status_error(meta.status)(text, response=response, body=error_object(body))
    error.describe(details.code, details.type, details.param)
    error.meta = meta
    return _finish(error, meta.request, tries, elapsed)


def refused_redirect(meta: Meta, why: str, tries: int, elapsed: float) -> APIStatusError:
    """Return the error for a redirect that may not be followed."""
    response = ResponseInfo(meta.status, meta.headers, meta.request)
    message = f"{meta.status} from {meta.request.method} {meta.url}: {why} ({_spent(tries, elapsed)})"
    error = APIStatusError(message, response=response, body=None)
    error.meta = meta
    return _finish(error, meta.request, tries, elapsed)


def invalid_answer(
    meta: Meta, raw: bytes, why: str, kind: type[APIResponseValidationError] = APIResponseValidationError
) -> APIResponseValidationError:
    """Return the error for a 2xx that does not fit its operation; it holds the raw body."""
    raw = _cleaned(meta, raw)
    response = ResponseInfo(meta.status, meta.headers, meta.request, raw)
    message = f"{meta.status} from {meta.request.method} {meta.url}: {why}"
    error = kind(response, raw, message=message)
    return _of_answer(error, meta)


class EmptyAnswerError(APIResponseValidationError, ValueError):
    """A well-formed answer without content. Also a `ValueError`, as users of the official client expect."""


def unexpected_answer(
    meta: Meta, raw: bytes, reason: str, kind: type[APIResponseValidationError] = APIResponseValidationError
) -> APIResponseValidationError:
    """Return the error of `invalid_answer` with the beginning of the body in its message."""
    raw = _cleaned(meta, raw)
    return invalid_answer(meta, raw, str(DecodeError(reason, raw)), kind)


def stream_error(meta: Meta, body: Any) -> APIError:
    """Return the error for an error object in place of an answer: in a 200, or in the middle of a stream."""
    from ..core.codec.error_body import read_error
    from ..core.codec.success import error_of_choice

    body = meta.request.secrets.clean(body)
    fields: dict[str, Any] = cast("Any", body) if isinstance(body, dict) else {}
    if not fields.get("error"):
        found: Any = error_of_choice(fields)
        body = found or cast("Any", body)
    details = read_error(body)
    text = f"{meta.request.method} {meta.url}: the server sent an error in place of an answer"
    error = APIError(with_words(text, details), meta.request, body=error_object(body))
    error.describe(details.code, details.type, details.param)
    error.retryable = _may_pass(details.code, details.type)
    return _of_answer(error, meta)


def _may_pass(code: str | None, kind: str | None) -> bool:
    """Return whether an error without a status is transient, by its code or type."""
    if code is not None and code.isascii() and code.isdigit():
        return retryable_status(int(code[:4]), {}, code, kind)
    return any(word is not None and word.lower() in _PASSING for word in (code, kind))


def broken_stream(meta: Meta, why: str, partial: Any) -> IncompleteStreamError:
    """Return the error for a stream that ended before its answer was complete."""
    message = f"{meta.request.method} {meta.url}: {why}; `.partial` holds the answer so far"
    error = IncompleteStreamError(message=message, request=meta.request, partial=partial)
    return _of_answer(error, meta)


def holds_error(answer: Any) -> bool:
    """Return whether an error object was decoded as an answer. Answers with a declared field `error` may hold one."""
    extra: dict[str, Any] = getattr(answer, "__dict__", {})
    if type(answer) is OpenModel and extra.get("id"):
        return False  # an object without a schema may have a field of that name, too
    if error := extra.get("error"):
        from ..core.codec.success import says_something

        return says_something(error)
    return "error" in (getattr(answer, "object", None), getattr(answer, "type", None))


def is_error_event(item: Any, data: bytes) -> bool:
    """Return whether an event's object is an error. It is given decoded (typed or plain) and as bytes."""
    kind: Any = None
    if isinstance(item, BaseModel):
        if holds_error(item):
            return True
        kind = type(item)
        if "choices" not in kind.__struct_fields__ and any(
            isinstance(getattr(item, name, None), str) for name in ("type", "event")
        ):
            return False  # its `type` or `event` identifies it
    return is_error_body(parsed(data), kind)


def has_words(data: bytes) -> bool:
    """Return whether an event's object has a message under one of the names that errors use."""
    from ..core.codec.success import has_words

    value = parsed(data)
    return isinstance(value, dict) and has_words(cast("dict[str, Any]", value))


def is_error_body(value: Any, kind: Any = None) -> bool:
    """Return whether parsed JSON in place of an answer of this type is an error, or a list that begins with one."""
    from ..core.codec.success import is_error

    if isinstance(value, list):
        items: list[Any] = cast("Any", value)
        value = items[0] if items else None
    return isinstance(value, dict) and is_error(kind, cast("dict[str, Any]", value))


def parsed(raw: bytes) -> Any:
    """Return the content of a body that may be an error: the values of JSON, or else its text."""
    from ..core.codec.error_body import parse_error

    return parse_error(raw)


def words_of(meta: Meta, raw: bytes) -> str:
    """Return the message in a body of any kind, without secrets, truncated for use in an error."""
    from ..core.codec.error_body import parse_error, read_error

    return _short(read_error(parse_error(_cleaned(meta, raw))).message)


def is_no_error(kind: Any) -> bool:
    """Return whether a strictly decoded value of this type can never be an error for `holds_error`.

    Such a type has no unknown fields and is identified by a literal.
    """
    if not is_struct(kind):
        return False
    for name in ("object", "type"):
        declared = kind.__annotations__.get(name)
        fixed = name not in kind.__struct_fields__ or get_origin(declared) is Literal
        if not fixed or getattr(kind, name, None) == "error" or "error" in get_args(declared):
            return False
    return True


def undecodable(meta: Meta, raw: bytes, why: str) -> APIError:
    """Return the error for bytes that are not an answer: the error object in them, if any, or the decoding error."""
    found = found_error(raw)
    return invalid_answer(meta, raw, why) if found is None else stream_error(meta, found)


def refused(meta: Meta, raw: bytes, reason: str, name: str = "", kind: Any = None) -> APIError:
    """Return the error for a rejected body, or event of this name: the error object in it, or else the reason.

    In an answer of a `kind` with a declared field `error`, an object with an id has `error` as an ordinary value; then
    the reason is reported.
    """
    raw = _cleaned(meta, raw)
    if (
        is_struct(kind)
        and "error" in getattr(get_origin(kind) or kind, "__struct_fields__", ())
        and (found_error(raw) or {}).get("id")
    ):
        return unexpected_answer(meta, raw, reason)
    if reason == ERROR or (name == "error" and found_error(raw) is None):
        from ..core.codec.error_body import parse_error

        return stream_error(meta, parse_error(raw))
    return undecodable(meta, raw, str(DecodeError(reason, raw)))


def found_error(raw: bytes) -> dict[str, Any] | None:
    """Return the parsed body if it is an object that contains an error."""
    try:
        body: Any = json.loads(mended_json(raw) if b"\\ud" in raw or b"\\uD" in raw else raw)
    except (ValueError, RecursionError):
        return None
    if isinstance(body, dict):
        fields = cast("dict[str, Any]", body)
        if fields.get("error") or "error" in (fields.get("object"), fields.get("type")):
            return fields
    return None


resolve_annotations(__name__)
