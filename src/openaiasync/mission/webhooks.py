"""`client.webhooks.unwrap` and `verify_signature`: whether a webhook is OpenAI's, and what it says.

Signatures are those of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.decode import DecodeError, decoder_for
from ..errors import InvalidWebhookSignatureError
from ..model import keep_raw

if TYPE_CHECKING:
    from ..calls import Calls
    from ..types.webhooks import UnwrapWebhookEvent

__all__ = ["WebhookMethods"]


class WebhookMethods:
    """The hand-written part of `client.webhooks`. Nothing here talks to a server."""

    _calls: Calls

    def unwrap(
        self, payload: str | bytes, headers: Mapping[str, str], *, secret: str | None = None
    ) -> UnwrapWebhookEvent:
        """Check a webhook's signature and decode its event, by its `type` one of `openaiasync.types.webhooks`.

        `payload` is the body exactly as it came. An event of a type that is not known yet is an open object. Raises as
        `verify_signature`, and `ValueError` for a body that is no JSON object.
        """
        self.verify_signature(payload, headers, secret=secret)
        from ..types.webhooks import UnwrapWebhookEvent

        raw = payload.encode() if isinstance(payload, str) else payload
        union: Any = UnwrapWebhookEvent  # a type checker knows no decoder of a union
        try:
            event: UnwrapWebhookEvent = keep_raw(decoder_for(union).decode(raw), raw)
        except DecodeError as error:
            raise ValueError(f"the webhook's body is no event: {error}") from None
        return event

    def verify_signature(
        self, payload: str | bytes, headers: Mapping[str, str], *, secret: str | None = None, tolerance: int = 300
    ) -> None:
        """Check that a webhook was signed with the secret, at most `tolerance` seconds ago (or ahead).

        `secret` is the endpoint's (default: the client's `webhook_secret`, or ``OPENAI_WEBHOOK_SECRET``). Raises
        `InvalidWebhookSignatureError`, and `ValueError` without a secret or a header field that is needed.
        """
        key = _key(secret if secret is not None else self._client_secret())
        lowered = {name.lower(): value for name, value in headers.items()}
        signatures, stamp, name = (_field(lowered, f"webhook-{what}") for what in ("signature", "timestamp", "id"))
        if not (stamp.isascii() and stamp.removeprefix("-").isdigit()):
            raise InvalidWebhookSignatureError("webhook-timestamp is no number of seconds")
        age = time.time() - int(stamp)
        if abs(age) > tolerance:
            raise InvalidWebhookSignatureError(f"the webhook is too {'old' if age > 0 else 'new'}")
        raw = payload.encode() if isinstance(payload, str) else payload
        expected = hmac.new(key, f"{name}.{stamp}.".encode() + raw, hashlib.sha256).digest()
        # All are compared, so that the time taken tells nothing of which one was near.
        matches = [hmac.compare_digest(_signature(text), expected) for text in signatures.split()]
        if not any(matches):
            raise InvalidWebhookSignatureError("no signature of the webhook fits its body")

    def _client_secret(self) -> str:
        secret = self._calls.config.webhook_secret
        if secret is None:
            raise ValueError("no webhook secret: pass secret=, or set webhook_secret or OPENAI_WEBHOOK_SECRET")
        return secret.reveal()


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("the webhook secret begins with whsec_, but what follows is no base64") from None


def _field(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise ValueError(f"the webhook has no header field {name}")
    return value


def _signature(text: str) -> bytes:
    """One of the header field's signatures, ``v1,BASE64``; what is none matches nothing."""
    try:
        return base64.b64decode(text.removeprefix("v1,"), validate=True)
    except (binascii.Error, ValueError):
        return b""
