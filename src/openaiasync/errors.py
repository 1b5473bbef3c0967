"""The errors that public calls raise, apart from `TypeError`, `ValueError` and `OSError` for wrong arguments.

    OpenAIError
    ├── ConfigurationError (ValueError)         the client's options or environment cannot work
    ├── InFlightError                           every slot in flight is held by tasks that wait for one
    ├── ClientClosedError                       the client was closed before or during the call
    ├── SubjectTokenProviderError               .response: a token provider failed; identity/token_exchange.py
    ├── WebSocketQueueFullError                 too many messages wait to be sent over a WebSocket; realtime/errors.py
    ├── StructuredOutputError                   .answer .text .usage .problem: an answer does not fit the type
    │   ├── LengthFinishReasonError             an answer to be parsed was cut at its length limit
    │   ├── ContentFilterFinishReasonError      an answer to be parsed was withheld by a content filter
    │   └── RefusalError                        .refusal: the model declined
    ├── UnfinishedResponseError (RuntimeError)  .answer: a response failed, or is incomplete
    ├── EmbedManyError                          .refused .vectors: texts without a vector; methods/embed_many.py
    ├── ManyCallsError                          .rows .reason: a run of client.map was stopped; bulk/mapping.py
    ├── SharedLimitsError                       the limits that processes share cannot be reached; budget/base.py
    ├── RowError (ValueError)                   a row of client.map that no request can carry; bulk/mapping.py
    ├── ContextLimitError (ValueError)          a session's request would not fit; chat/context_window.py
    ├── BudgetError                             a session's request would exceed its budget; chat/usage.py
    ├── SessionFileError (OSError)              a saved session cannot be read or written; chat/session_file.py
    ├── ToolError                               .call: a tool call of a turn failed; chat/reply.py
    ├── TooManyRoundsError                      .max_rounds: the model keeps asking for tools; chat/reply.py
    └── APIError                                .request .body .code .param .type; also an error object within a stream
        ├── APIConnectionError                  no usable answer was received
        │   ├── APITimeoutError                 .clock: "connect", "start", "stall", "deadline", "queue", "ping"
        │   │   └── PollTimeoutError            .partial: the object that was polled, as last received
        │   ├── IncompleteStreamError           .partial: what was received before the stream broke off
        │   └── WebSocketConnectionClosedError  .close_code .close_reason .unsent_messages; realtime/errors.py
        ├── APIResponseValidationError          .response: the answer is not what the operation promises
        └── APIStatusError                      .response .status_code .request_id
            ├── BadRequestError 400             ├── ConflictError 409
            ├── AuthenticationError 401         ├── UnprocessableEntityError 422
            │   └── OAuthError                  ├── RateLimitError 429
            ├── PermissionDeniedError 403       └── InternalServerError 5xx
            └── NotFoundError 404
    InvalidWebhookSignatureError (ValueError)   a webhook's signature does not match its body

Names and constructors are the official client's. Each error says which `side` is at fault ("caller", "server" or
"network"), whether the same call may succeed later (`retryable`), and has `.meta` if an answer was received.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from .core.model.meta import Meta
from .core.model.plain import mended
from .lazy import resolve_annotations

if TYPE_CHECKING:
    from .types.chat import ChatCompletion
    from .types.completion_usage import CompletionUsage

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "ContentFilterFinishReasonError",
    "InFlightError",
    "IncompleteStreamError",
    "InternalServerError",
    "InvalidWebhookSignatureError",
    "LengthFinishReasonError",
    "NotFoundError",
    "OAuthError",
    "OpenAIError",
    "PermissionDeniedError",
    "PollTimeoutError",
    "RateLimitError",
    "RefusalError",
    "Side",
    "StructuredOutputError",
    "UnfinishedResponseError",
    "UnprocessableEntityError",
    "status_error",
]

Side = Literal["caller", "server", "network"]
_E = TypeVar("_E", bound="OpenAIError")


def _rebuild(cls: type[_E], args: tuple[Any, ...], state: dict[str, Any]) -> _E:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class OpenAIError(Exception):
    """The base of the tree.

    Attributes:
        tries: how often the call was sent.
        elapsed: the seconds it took, without waiting for a slot in flight.
        sent: for a call without an answer, whether a server may have received the request, and may charge for it.
        partial: what was received before the error, if something is kept: the `Reply` of a turn so far, or `None`.
    """

    side: Side = "caller"
    retryable: bool = False
    sent: bool = False
    meta: Meta | None = None
    tries: int = 0
    elapsed: float = 0.0
    partial: Any = None

    def as_curl(self) -> str:
        """Return the request as a curl command without secrets (`RequestInfo.as_curl`); ``""`` if none was made."""
        request: Any = getattr(self, "request", None)
        if not hasattr(request, "as_curl"):
            request = self.meta and self.meta.request
        return "" if request is None else str(request.as_curl())

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors have required keywords, so the default way of pickling exceptions does not work.
        return (_rebuild, (type(self), self.args, self.__dict__))


class ConfigurationError(OpenAIError, ValueError):
    """A client's options, or the environment that it reads, cannot work; raised at construction or first use."""


class InFlightError(OpenAIError, RuntimeError):
    """Waiting for a slot in flight, or for a connection, would never end: all are held by tasks that wait for one."""


class ClientClosedError(OpenAIError, RuntimeError):
    """The client was closed before this call, or during it."""


class APIError(OpenAIError):
    """A request was sent, or was about to be, and there is no answer that can be used.

    `request` is what was sent (`.method`, `.url`, `.headers` without credentials); `body` is the error object, or the
    raw body of the answer (`None` without one); `code`, `param` and `type` are those of the error object.
    """

    side: Side = "server"
    message: str
    request: Any
    body: object | None
    code: str | None = None
    param: str | None = None
    type: str | None = None

    def __init__(self, message: str, request: Any, *, body: object | None) -> None:
        super().__init__(message)
        self.message = message
        self.request = request
        self.body = body
        fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
        code, kind, param = (fields.get(name) for name in ("code", "type", "param"))
        self.describe(
            None if code is None else str(code),
            kind if isinstance(kind, str) else None,
            param if isinstance(param, str) else None,
        )

    def describe(self, code: str | None, type: str | None, param: str | None) -> None:
        """Set what the server's error object says; `None` leaves an attribute unchanged."""
        self.code = code or self.code
        self.type = type or self.type
        self.param = param or self.param


class APIConnectionError(APIError):
    """No usable answer was received: refused, DNS, TLS, closed too early, or bytes that are not HTTP.

    `partial` is what was received of a stream that is accumulated, else `None`.
    """

    side: Side = "network"
    retryable: bool = True

    def __init__(self, *, message: str = "Connection error.", request: Any) -> None:
        super().__init__(message, request, body=None)


class APITimeoutError(APIConnectionError):
    """A timeout expired. `clock` names it: ``"connect"``, ``"start"``, ``"stall"``, ``"deadline"`` or ``"queue"``.

    For a WebSocket also ``"ping"``: the server did not answer a ping (RFC 6455, section 5.5.2).
    """

    clock: str = "start"

    def __init__(self, request: Any, *, message: str = "Request timed out.", clock: str = "start") -> None:
        super().__init__(message=message, request=request)
        self.clock = clock


class PollTimeoutError(APITimeoutError, TimeoutError, RuntimeError):
    """Time is up for a helper that polls an object. `partial` is the object as last received.

    The official client raises `TimeoutError` from one helper and `RuntimeError` from another: this is both.
    """

    side: Side = "server"

    def __init__(self, request: Any, *, message: str = "Time is up.", partial: Any = None) -> None:
        super().__init__(request, message=message, clock="deadline")
        self.partial = partial


class IncompleteStreamError(APIConnectionError):
    """A stream ended before its answer was complete. `partial` is what was received (`None` if nothing is kept)."""

    sent: bool = True

    def __init__(self, *, message: str = "The stream broke off.", request: Any, partial: Any = None) -> None:
        super().__init__(message=message, request=request)
        self.partial = partial


class APIResponseValidationError(APIError):
    """An answer is not what its operation promises. `response` holds its raw body."""

    response: Any
    status_code: int

    def __init__(self, response: Any, body: object | None, *, message: str | None = None) -> None:
        super().__init__(message or "The answer is not what the operation promises.", response.request, body=body)
        self.response = response
        self.status_code = response.status_code


class APIStatusError(APIError):
    """The server answered with a status of 4xx or 5xx (or a redirect that may not be followed)."""

    response: Any
    status_code: int
    request_id: str | None

    def __init__(self, message: str, *, response: Any, body: object | None) -> None:
        super().__init__(message, response.request, body=body)
        self.response = response
        self.status_code = response.status_code
        self.request_id = response.headers.get("x-request-id")
        self.side: Side = "server" if self.status_code >= 500 or self.status_code < 400 else "caller"
        self.retryable: bool = self.status_code in _RETRYABLE or (
            self.status_code >= 500 and self.status_code not in _NOT_IMPLEMENTED
        )


class BadRequestError(APIStatusError):
    """400: the server rejects the request."""

    status_code: int = 400


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong or expired."""

    status_code: int = 401


class OAuthError(AuthenticationError):
    """A token exchange failed; `error` is the code of RFC 6749, section 5.2."""

    error: str | None = None

    def __init__(self, *, response: Any, body: object | None) -> None:
        original = body
        fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
        description = fields.get("error_description")
        message = description if isinstance(description, str) and description else "The token exchange failed."
        super().__init__(message, response=response, body=original)
        self.error = fields.get("error")


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this."""

    status_code: int = 403


class NotFoundError(APIStatusError):
    """404: no such path, model or object."""

    status_code: int = 404


class ConflictError(APIStatusError):
    """409: the object is in conflict with the request, such as one that is being changed by another."""

    status_code: int = 409


class UnprocessableEntityError(APIStatusError):
    """422: the request is well formed, but the server cannot process it."""

    status_code: int = 422


class RateLimitError(APIStatusError):
    """429: too many requests or tokens, or the quota is used up (`code` is ``"insufficient_quota"`` then)."""

    status_code: int = 429

    def __init__(self, message: str, *, response: Any, body: object | None) -> None:
        super().__init__(message, response=response, body=body)
        self.describe(None, None, None)

    def describe(self, code: str | None, type: str | None, param: str | None) -> None:
        super().describe(code, type, param)
        if "insufficient_quota" in (self.code, self.type):
            self.retryable = False


class InternalServerError(APIStatusError):
    """5xx: the server, or a gateway in front of it, failed."""


class StructuredOutputError(OpenAIError):
    """An answer does not fit the type that it was to be parsed into, even after repairs.

    `answer` is the last answer, `text` its text, `usage` its tokens, `problem` the `ShapeError` that says what does not
    fit (`None` in the subclasses).
    """

    side: Side = "server"
    problem: ValueError | None = None

    def __init__(self, message: str, *, answer: ChatCompletion | None, problem: ValueError | None = None) -> None:
        super().__init__(mended(message))  # a refusal is the model's text
        self.completion: Any = answer
        self.answer: Any = answer
        words = getattr(answer, "output_text", None)  # of a response, whose `text` is something else
        self.text: str = words if isinstance(words, str) else "" if answer is None else answer.text
        self.usage: CompletionUsage | None = None if answer is None else answer.usage
        self.problem = problem


class LengthFinishReasonError(StructuredOutputError):
    """An answer that was to be parsed was cut at its length limit. `completion` is the answer."""

    def __init__(self, *, completion: ChatCompletion) -> None:
        used = f" ({completion.usage})" if completion.usage else ""
        super().__init__(f"The answer was cut at its length limit and cannot be parsed{used}.", answer=completion)


class ContentFilterFinishReasonError(StructuredOutputError):
    """An answer that was to be parsed was withheld by the server's content filter."""

    def __init__(self, *, completion: ChatCompletion | None = None) -> None:
        message = "The answer was withheld by the server's content filter and cannot be parsed."
        super().__init__(message, answer=completion)


class RefusalError(StructuredOutputError):
    """The model declined to answer; `refusal` is its explanation."""

    def __init__(self, refusal: str, *, answer: ChatCompletion | None) -> None:
        super().__init__(f"The model refused: {refusal}", answer=answer)
        self.refusal: str = refusal


class UnfinishedResponseError(OpenAIError, RuntimeError):
    """A streamed response ended as failed, incomplete or cancelled. `answer` is the partial response."""

    side: Side = "server"

    def __init__(self, message: str, *, answer: Any) -> None:
        super().__init__(message)
        self.answer = answer


class InvalidWebhookSignatureError(ValueError):
    """The signature of a webhook does not match its body, or is too old."""


_RETRYABLE = frozenset({408, 409, 425, 429})
_NOT_IMPLEMENTED = frozenset({501, 505})
_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def status_error(status: int) -> type[APIStatusError]:
    """Return the class for a status: by the table above, `InternalServerError` from 500 on, else `APIStatusError`."""
    return _BY_STATUS.get(status, InternalServerError if status >= 500 else APIStatusError)


resolve_annotations(__name__)
