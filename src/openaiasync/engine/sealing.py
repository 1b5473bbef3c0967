"""Remove secrets from errors that leave the library: from their texts, their causes and their tracebacks.

Only failing calls pay for it. `cleaned_error` is applied when an error is made (`engine.failures`), `seal` when it
leaves an engine's method: it also clears the locals of the frames below, which hold received bytes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

from ..core.model.meta import RequestInfo
from ..core.model.secrets import HIDDEN, NO_SECRETS, HiddenFields, Secrets
from ..errors import OpenAIError
from ..transport.base import TransportError
from .method_names import explain_arguments

__all__ = ["cleaned_error", "seal", "sealed", "sealing", "secrets_of", "unquoting"]

E = TypeVar("E", bound=BaseException)
P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = __name__.partition(".")[0]
_OTHERS = frozenset(
    {
        "codecs",
        "encodings",
        "gzip",
        "httpcore",
        "httpcore2",
        "httpx",
        "httpx2",
        "json",
        "msgspec",
        "pydantic",
        "typing",
        "websockets",
        "zlib",
    }
)
"""Libraries that receive an answer's bytes and a request's fields, so that the locals of their frames hold them too."""
_CLEANED = (OpenAIError, TransportError, ValueError, TypeError, OSError)
_CALLERS = ("extra_headers", "extra_query")


def secrets_of(error: BaseException) -> Secrets:
    """Return the secrets of the attempt that an error is about."""
    for value in (*vars(error).values(), error.__cause__):
        for one in (value, getattr(value, "request", None), getattr(_meta_of(value), "request", None)):
            if isinstance(one, RequestInfo) and one.secrets is not NO_SECRETS:
                return one.secrets
    return NO_SECRETS


def _meta_of(value: Any) -> Any:
    try:
        return getattr(value, "meta", None)
    except LookupError:  # the error of a turn without an answer
        return None


def cleaned_error(error: E, secrets: Secrets) -> E:
    """Return the error with the secrets redacted in its message and all of its attributes."""
    error.args = secrets.clean(error.args)
    for name, value in list(vars(error).items()):
        if isinstance(value, BaseException):
            _seal(value, secrets, set())
        else:
            clean = secrets.clean(value)
            if clean is not value:
                setattr(error, name, clean)
    return error


def seal(error: BaseException, secrets: Secrets | None = None) -> None:
    """Remove secrets from an error. Call it in the outermost frame of an engine's method, before re-raising the error.

    `secrets` are those of the attempt, for an error that does not hold its request.
    """
    _seal(error, secrets_of(error) if secrets is None else secrets, set())
    trace = error.__traceback__
    if trace is not None:
        _hide_callers(trace.tb_frame)  # the frame that caught the error


def sealing(method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Decorate an asynchronous method to seal its exceptions, its own locals included.

    It costs one more coroutine per call.
    """

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except BaseException as error:
            del args, kwargs
            explain_arguments(error, method)
            seal(error)
            raise

    return wrapper


def sealed(method: Callable[P, R]) -> Callable[P, R]:
    """Decorate a plain method to seal its exceptions: one that checks the arguments of a stream or a session.

    Of a coroutine function only the errors about its arguments are caught here, at a tenth of the cost of `sealing`.
    """
    return _guarded(method, seal)


def unquoting(method: Callable[P, R]) -> Callable[P, R]:
    """Decorate a method whose arguments may be keys: its exceptions leave without the frames in which they arose."""
    return _guarded(method, _without_frames)


def _guarded(method: Callable[P, R], clean: Callable[[Exception], None]) -> Callable[P, R]:
    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            del args, kwargs
            explain_arguments(error, method)
            clean(error)
            raise

    return wrapper


def _without_frames(error: Exception) -> None:
    error.__cause__ = error.__context__ = error.__traceback__ = None


def _seal(error: BaseException, secrets: Secrets, seen: set[int]) -> None:
    """Clean an error and its chain: causes, and contexts that arose in the library."""
    seen.add(id(error))
    if isinstance(error, _CLEANED):
        cleaned_error(error, secrets)
    _clear(error)
    if error.__suppress_context__:
        error.__context__ = None if error.__cause__ is not error.__context__ else error.__cause__
    cause, context = error.__cause__, _own(error.__context__)
    for other in (cause, context):
        if other is not None and id(other) not in seen:
            _seal(other, secrets, seen)
    # Some exceptions of other libraries, such as pydantic's, quote their input and cannot be changed.
    if cause is not None and secrets.tells(cause):
        error.__cause__ = None
    if context is not None and secrets.tells(context):
        error.__context__ = None


def _own(error: BaseException | None) -> BaseException | None:
    """Return the context of an error if it arose in the library: a caller's own errors are left alone."""
    trace = None if error is None else error.__traceback__
    return error if trace is not None and _is_ours(trace.tb_frame) else None


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE


def _clear(error: BaseException) -> None:
    """Clear the locals of frames that have ended and may hold a server's bytes or header fields."""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name == _PACKAGE or name in _OTHERS:
            with contextlib.suppress(RuntimeError):  # it is still running
                frame.clear()
        trace = trace.tb_next


def _hide_callers(frame: FrameType | None) -> None:
    """Redact the header fields that a caller gave in the frames that are still running.

    Those frames hold them in dicts of keyword arguments, which belong to the methods, so their values can be wrapped.
    """
    while frame is not None:
        if _is_ours(frame):
            code = frame.f_code
            named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            for name, value in frame.f_locals.items():
                if type(value) is dict and (name not in named or name == "params"):
                    _hide(cast("dict[str, Any]", value))
        frame = frame.f_back


def _hide(params: dict[str, Any]) -> None:
    for name in _CALLERS:
        given: Any = params.get(name)
        if isinstance(given, dict):
            params[name] = HiddenFields(cast("dict[str, Any]", given))
        elif isinstance(given, (list, tuple, str, bytes)):  # an invalid argument, which the error reports
            params[name] = HIDDEN
