"""The exchange of a subject token for an access token at OpenAI's token server (RFC 8693, section 2)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from ..core.codec.encode import encode_json
from ..core.codec.endpoint import Endpoint, Request
from ..core.codec.error_body import parse_error
from ..core.model.meta import Meta, RequestInfo
from ..core.model.plain import parse_json
from ..engine import failures
from ..engine.callback import ask
from ..engine.config import BaseURL, CallConfig, Secret
from ..engine.engine import Engine
from ..engine.upstream import Connections
from ..errors import APIStatusError, OAuthError, OpenAIError
from ..lazy import resolve_annotations
from ..version import __version__

if TYPE_CHECKING:
    from .providers import SubjectTokenProvider
    from .workload import WorkloadIdentity, X509WorkloadIdentity

__all__ = [
    "AGENT",
    "EXCHANGE_URL",
    "MOST",
    "SUBJECT_TYPES",
    "X509_EXCHANGE_URL",
    "SubjectTokenProviderError",
    "exchange",
    "fetch_small",
]

AGENT = (("User-Agent", f"openaiasync/{__version__}"),)
MOST = 1 << 20  # bytes of a body that holds a token

EXCHANGE_URL = "https://auth.openai.com/oauth/token"
X509_EXCHANGE_URL = "https://mtls.auth.openai.com/oauth/token"
SUBJECT_TYPES = {
    "jwt": "urn:ietf:params:oauth:token-type:jwt",
    "id": "urn:ietf:params:oauth:token-type:id_token",
}
_X509 = "urn:openai:params:oauth:token-type:x509"
_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_SECONDS = 10.0  # for all attempts at an exchange


class SubjectTokenProviderError(OpenAIError):
    """A token provider failed, before any exchange; a refused exchange is an `OAuthError`.

    `response` is the answer of the metadata server, if there was one, without its body, which may hold a token.
    """

    def __init__(self, message: str, *, response: Any = None) -> None:
        super().__init__(message)
        self.response: Any = response


async def exchange(
    identity: WorkloadIdentity | X509WorkloadIdentity, url: str, shared: Connections
) -> tuple[Secret, float]:
    """Return the access token, and the seconds until it expires.

    Raises `SubjectTokenProviderError`, `OAuthError` if the server does not accept the subject token, and the errors of
    any call. No error contains a token.
    """
    fields: dict[str, Any] = {
        "grant_type": _GRANT,
        "subject_token_type": _X509,
        "identity_provider_id": identity["identity_provider_id"],
        "service_account_id": identity["service_account_id"],
    }
    subject: Secret | None = None
    provider = cast("SubjectTokenProvider | None", identity.get("provider"))
    if provider is not None:
        fields["subject_token_type"] = SUBJECT_TYPES[provider["token_type"]]
        subject = await _subject(provider)
    parts = urlsplit(url)
    base = BaseURL(f"{parts.scheme}://{parts.netloc}")
    engine = Engine(
        CallConfig(base=base, fields=AGENT, deadline=_SECONDS, max_redirects=0, max_body=MOST, repeat_timed_out=True),
        shared,
    )
    row = Endpoint("identity.exchange", "POST", parts.path, body="json", codec="bytes")
    request = Request(row, parts.path + (f"?{parts.query}" if parts.query else ""), _body(fields, subject))
    if subject is not None:
        engine.builder.hide(subject)
    refused: OpenAIError
    try:
        meta, raw = await fetch_small(engine, request)
    except APIStatusError as error:
        refused = _refused(error)
    else:
        token, seconds = _read(raw)
        del raw
        if token is not None and seconds is not None:
            return token, seconds
        refused = failures.invalid_answer(meta, b"", "the token server sent no usable access_token")
    raise refused.with_traceback(None) from None


async def fetch_small(engine: Engine, request: Request) -> tuple[Meta, bytes]:
    """Return the metadata and the body of a call whose answer is secret. Raises `OpenAIError` without the body."""
    try:
        meta, body = await engine.fetch(request)
        meta.request.content = b""
        return meta, body
    except OpenAIError as error:
        failure = error
    shown = getattr(failure, "request", None)
    if isinstance(shown, RequestInfo):
        shown.content = b""
    failure.__context__ = failure.__cause__ = None
    raise failure.with_traceback(None)


async def _subject(provider: SubjectTokenProvider) -> Secret:
    try:
        value: Any = await ask(provider["get_token"], "the token provider", SubjectTokenProviderError)
    except OpenAIError:
        raise
    except Exception as error:
        raise SubjectTokenProviderError(f"the token provider failed: {type(error).__name__}") from error
    if not isinstance(value, str) or not value:
        raise SubjectTokenProviderError("the token provider did not return a token")
    return Secret(value)


def _body(fields: dict[str, Any], subject: Secret | None) -> bytes:
    return encode_json(fields if subject is None else {**fields, "subject_token": subject.reveal()})


def _refused(error: APIStatusError) -> OpenAIError:
    """Return `OAuthError` for 400, 401 and 403, which mean that the token is not accepted, else the error itself."""
    if error.status_code not in (400, 401, 403):
        return error
    failure = OAuthError(response=error.response, body=parse_error(error.response.content))
    failure.meta, failure.tries, failure.elapsed = error.meta, error.tries, error.elapsed
    return failure


def _read(raw: bytes) -> tuple[Secret | None, float | None]:
    try:
        fields: Any = parse_json(raw)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(fields, dict):
        return None, None
    answer = cast("dict[str, Any]", fields)
    token: Any = answer.get("access_token")
    seconds: Any = answer.get("expires_in")
    numeric = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return (
        Secret(token) if isinstance(token, str) and token else None,
        float(seconds) if numeric and 0 < seconds <= sys.float_info.max else None,
    )


resolve_annotations(__name__)
