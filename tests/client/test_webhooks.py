"""Webhooks: only what is signed, fresh and whole is believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import pytest

from openaiasync import Client, InvalidWebhookSignatureError
from openaiasync.calls import Calls
from openaiasync.mission.webhooks import WebhookMethods
from openaiasync.types.webhooks import BatchCompletedWebhookEvent

KEY = b"a secret of some bytes"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
EVENT = json.dumps(
    {
        "id": "evt_1",
        "type": "batch.completed",
        "created_at": 1,
        "object": "event",
        "data": {"id": "batch_1"},
    }
)


class Webhooks(WebhookMethods):
    def __init__(self, calls: Calls) -> None:
        self._calls = calls


def webhooks() -> Webhooks:
    return Webhooks(Client(api_base="http://localhost:1")._calls)


def signed(body: str, *, key: bytes = KEY, at: float | None = None) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.new(key, f"msg_1.{stamp}.{body}".encode(), hashlib.sha256).digest()
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": stamp,
        "Webhook-Signature": f"v1,bm9wZQ== v1,{base64.b64encode(mac).decode()}",
    }


def test_a_signed_event_is_decoded_by_its_type() -> None:
    """Text or bytes, any case of field names, any of several signatures."""
    for payload in (EVENT, EVENT.encode()):
        event = webhooks().unwrap(payload, signed(EVENT), secret=SECRET)
        assert isinstance(event, BatchCompletedWebhookEvent)
        assert event.data.id == "batch_1"


def test_an_unknown_event_is_an_open_object() -> None:
    """What OpenAI adds later is not lost."""
    body = json.dumps({"id": "evt_1", "type": "something.new", "data": {"x": 1}})
    assert webhooks().unwrap(body, signed(body), secret=SECRET).to_dict()["data"] == {"x": 1}


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (EVENT.replace("batch_1", "batch_2"), signed(EVENT), "fits its body"),
        (EVENT, signed(EVENT, key=b"another"), "fits its body"),
        (EVENT, signed(EVENT, at=time.time() - 301), "too old"),
        (EVENT, signed(EVENT, at=time.time() + 4000), "too new"),
        (EVENT, {**signed(EVENT), "Webhook-Timestamp": "soon"}, "no number"),
        (EVENT, {**signed(EVENT), "Webhook-Signature": "v1,??? garbage é"}, "fits its body"),
    ],
)
def test_what_is_not_openais_is_refused(body: str, headers: dict[str, str], why: str) -> None:
    """Changed, signed by another, stale, or nonsense: `InvalidWebhookSignatureError`."""
    with pytest.raises(InvalidWebhookSignatureError, match=why):
        webhooks().unwrap(body, headers, secret=SECRET)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret, no field, no base64, no JSON: a `ValueError` that says so."""
    with pytest.raises(ValueError, match="OPENAI_WEBHOOK_SECRET"):
        webhooks().verify_signature(EVENT, signed(EVENT))
    with pytest.raises(ValueError, match="webhook-id"):
        webhooks().verify_signature(EVENT, {k: v for k, v in signed(EVENT).items() if k != "Webhook-Id"}, secret="s")
    with pytest.raises(ValueError, match="no base64"):
        webhooks().verify_signature(EVENT, signed(EVENT), secret="whsec_!!!")
    with pytest.raises(ValueError, match="no event"):
        webhooks().unwrap("[]", signed("[]"), secret=SECRET)


def test_a_plain_secret_is_taken_as_it_is() -> None:
    """Without `whsec_` the secret's own bytes are the key."""
    webhooks().verify_signature(EVENT, signed(EVENT, key=b"plain"), secret="plain")
