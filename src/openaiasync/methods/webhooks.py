"""`client.webhooks.unwrap` and `verify_signature`: check that a webhook is OpenAI's, and decode it.

Signatures are those of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.codec.decode import DecodeError, decoder_for
from ..core.model.base import keep_raw
from ..engine.sealing import sealed
from ..errors import InvalidWebhookSignatureError
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from ..engine import Engine
    from ..types.webhooks import UnwrapWebhookEvent

__all__ = ["WebhookMethods"]

_DIGITS = 15  # digits of a number of seconds: some thirty million years


class WebhookMethods:
    """The hand-written part of `client.webhooks`. Nothing here talks to a server."""

    _calls: Engine

    @sealed
    def unwrap(
        self, payload: str | bytes, headers: Mapping[str, str], *, secret: str | None = None
    ) -> UnwrapWebhookEvent:
        """Check a webhook's signature and decode its event, by its `type` one of `openaiasync.types.webhooks`.

        `payload` is the body exactly as received. An event of a type that is not known yet is an open object. Raises
        the errors of `verify_signature`, and `ValueError` for a body that is not a JSON object.
        """
        self.verify_signature(payload, headers, secret=secret)
        from ..types.webhooks import UnwrapWebhookEvent

        raw = _body(payload)
        union: Any = UnwrapWebhookEvent  # type checkers do not know that a decoder can be of a union
        try:
            event: UnwrapWebhookEvent = keep_raw(decoder_for(union).decode(raw), raw)
        except (DecodeError, UnicodeError, RecursionError) as error:
            raise ValueError(f"the webhook's body is not an event: {error}") from None
        return event

    @sealed
    def verify_signature(
        self, payload: str | bytes, headers: Mapping[str, str], *, secret: str | None = None, tolerance: int = 300
    ) -> None:
        """Check that a webhook was signed with the secret, at most `tolerance` seconds ago (or ahead).

        `headers` is a mapping or a list of pairs; names and values may be bytes. `secret` is the endpoint's (default:
        the client's `webhook_secret`, or ``OPENAI_WEBHOOK_SECRET``). Raises `InvalidWebhookSignatureError` for a
        webhook that is not genuine, stale or ambiguous, and `ValueError` without a usable secret or a required
        header field.
        """
        key = _key(secret if secret is not None else self._client_secret())
        found = _fields(headers)
        signatures = _field(found, "webhook-signature", several=True)
        stamp, name = _field(found, "webhook-timestamp"), _field(found, "webhook-id")
        age = time.time() - _seconds(stamp)
        if not abs(age) <= tolerance:
            raise InvalidWebhookSignatureError(f"the webhook is too {'old' if age > 0 else 'new'}")
        signed = _signed(f"{name}.{stamp}.") + _body(payload)
        expected = hmac.new(key, signed, hashlib.sha256).digest()
        # Every signature is compared, so that timing does not reveal which one was close.
        matches = [hmac.compare_digest(_signature(text), expected) for text in signatures.split()]
        if not any(matches):
            raise InvalidWebhookSignatureError("no signature of the webhook matches its body")

    def _client_secret(self) -> str:
        secret = self._calls.config.webhook_secret
        if secret is None:
            raise ValueError("no webhook secret: pass secret=, or set webhook_secret or OPENAI_WEBHOOK_SECRET")
        return secret.reveal()


def _key(secret: object) -> bytes:
    """Return the key of a secret, which must not be empty: anybody could sign with it."""
    if not isinstance(secret, str):
        raise ValueError(f"the webhook secret must be a string, not {type(secret).__name__}")
    if not secret.strip().startswith("whsec_"):
        key = secret.encode("utf-8", "surrogatepass") if secret.strip() else b""
    else:
        digits = secret.strip().removeprefix("whsec_").rstrip("=")
        try:
            key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
        except ValueError:
            raise ValueError("the webhook secret begins with whsec_, but what follows is not base64") from None
    if not key:
        raise ValueError("the webhook secret is empty: anybody could sign with it")
    return key


def _body(payload: object) -> bytes:
    if isinstance(payload, str):
        return _signed(payload)
    if isinstance(payload, (bytes, bytearray)):
        return bytes(payload)
    raise ValueError(f"the webhook's body must be the bytes or text exactly as received, not {type(payload).__name__}")


def _signed(text: str) -> bytes:
    """Return the bytes that were signed. Raises for a text that is not valid Unicode, which cannot have been signed."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidWebhookSignatureError("the webhook's id or body is not Unicode text") from None


def _fields(headers: Any) -> dict[str, list[str]]:
    """Return all values of the header fields by lower-case name, from any mapping or list of pairs."""
    multi: Any = getattr(headers, "multi_items", None)  # Starlette's and httpx's: every field, repeated ones too
    pairs: Any = multi() if callable(multi) else headers.items() if hasattr(headers, "items") else headers
    found: dict[str, list[str]] = {}
    try:
        for name, value in pairs:
            known = found.setdefault(_text(name).lower(), [])
            known += map(_text, value) if type(value) in (list, tuple) else [_text(value)]
    except (TypeError, ValueError):
        raise ValueError("the webhook's headers must be a mapping of names to values, or a list of pairs") from None
    return found


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str):
        raise TypeError
    return value


def _field(headers: Mapping[str, list[str]], name: str, *, several: bool = False) -> str:
    """Return the value of a header field. Without `several`, repeated fields must agree."""
    values = list(dict.fromkeys(value.strip() for value in headers.get(name, ())))
    if len(values) > 1 and not several:
        raise InvalidWebhookSignatureError(f"the webhook has several header fields {name}, and they differ")
    joined = " ".join(values).strip()
    if not joined:
        raise ValueError(f"the webhook has no header field {name}")
    return joined


def _seconds(stamp: str) -> int:
    digits = stamp.removeprefix("-")
    if not (stamp.isascii() and digits.isdigit()):
        raise InvalidWebhookSignatureError("webhook-timestamp is not a number of seconds")
    if len(digits) > _DIGITS:
        raise InvalidWebhookSignatureError("webhook-timestamp is not a valid time")
    return int(stamp)


def _signature(text: str) -> bytes:
    """Return one signature, ``v1,BASE64``, as bytes; anything else matches nothing."""
    try:
        return base64.b64decode(text.removeprefix("v1,"), validate=True)
    except ValueError:
        return b""


resolve_annotations(__name__)
