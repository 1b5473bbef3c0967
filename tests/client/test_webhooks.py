"""Webhooks: only what is signed, fresh and whole is believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import pytest

from openaiasync import AsyncOpenAI, Client, InvalidWebhookSignatureError
from openaiasync.engine import Engine
from openaiasync.methods.webhooks import WebhookMethods
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
    def __init__(self, calls: Engine) -> None:
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
    ("body", "key", "late", "changed", "why"),
    [
        (EVENT.replace("batch_1", "batch_2"), KEY, 0, {}, "matches its body"),
        (EVENT, b"another", 0, {}, "matches its body"),
        (EVENT, KEY, 301, {}, "too old"),
        (EVENT, KEY, -4000, {}, "too new"),
        (EVENT, KEY, 0, {"Webhook-Timestamp": "soon"}, "not a number"),
        (EVENT, KEY, 0, {"Webhook-Signature": "v1,??? garbage é"}, "matches its body"),
    ],
)
def test_what_is_not_openais_is_refused(body: str, key: bytes, late: float, changed: dict[str, str], why: str) -> None:
    """Changed, signed by another, stale, or nonsense: `InvalidWebhookSignatureError`."""
    headers = {**signed(EVENT, key=key, at=time.time() - late), **changed}
    with pytest.raises(InvalidWebhookSignatureError, match=why):
        webhooks().unwrap(body, headers, secret=SECRET)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret, no field, no base64, no JSON: a `ValueError` that says so."""
    with pytest.raises(ValueError, match="OPENAI_WEBHOOK_SECRET"):
        webhooks().verify_signature(EVENT, signed(EVENT))
    with pytest.raises(ValueError, match="webhook-id"):
        webhooks().verify_signature(EVENT, {k: v for k, v in signed(EVENT).items() if k != "Webhook-Id"}, secret="s")
    with pytest.raises(ValueError, match="not base64"):
        webhooks().verify_signature(EVENT, signed(EVENT), secret="whsec_!!!")
    with pytest.raises(ValueError, match="not an event"):
        webhooks().unwrap("[]", signed("[]"), secret=SECRET)


def test_a_plain_secret_is_taken_as_it_is() -> None:
    """Without `whsec_` the secret's own bytes are the key."""
    webhooks().verify_signature(EVENT, signed(EVENT, key=b"plain"), secret="plain")


@pytest.mark.parametrize("secret", ["", " ", "\n", "whsec_", "whsec_=", " whsec_ "])
def test_an_empty_secret_is_refused(secret: str) -> None:
    """Anybody can sign with an empty key: a webhook forged that way is not believed."""
    with pytest.raises(ValueError, match="the webhook secret is empty"):
        webhooks().verify_signature(EVENT, signed(EVENT, key=b""), secret=secret)


def test_an_empty_secret_of_the_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable that is set to nothing is no secret either."""
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", "")
    with pytest.raises(ValueError, match="secret"):
        webhooks().verify_signature(EVENT, signed(EVENT, key=b""))
    client = AsyncOpenAI(api_key="k", webhook_secret="")
    with pytest.raises(ValueError, match="secret"):
        client.webhooks.verify_signature(EVENT, signed(EVENT, key=b""))


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_a_secret_with_and_without_padding(padding: str) -> None:
    """Base64 loses its last signs when people copy it."""
    secret = " whsec_" + base64.b64encode(KEY).decode().rstrip("=") + padding + "\n"
    webhooks().verify_signature(EVENT, signed(EVENT), secret=secret)


@pytest.mark.parametrize(
    "stamp",
    ["9" * 400, "9" * 5_000, "-" + "9" * 5_000, "--1", "1e9", "1.5", "nan", "\u0661", "0x10", "1_000", "\ud800"],
)
def test_timestamps_that_no_clock_shows(stamp: str) -> None:
    """Refused as signatures are, however long they are."""
    with pytest.raises(InvalidWebhookSignatureError, match="webhook-timestamp is not"):
        webhooks().verify_signature(EVENT, {**signed(EVENT), "Webhook-Timestamp": stamp}, secret=SECRET)


@pytest.mark.parametrize("place", ["Webhook-Id", "Webhook-Signature", "body"])
def test_half_a_character_fits_no_signature(place: str) -> None:
    """A lone surrogate was never sent."""
    headers = {**signed(EVENT), place: "x\ud800"}
    body = EVENT + "\ud800" if place == "body" else EVENT
    with pytest.raises(InvalidWebhookSignatureError):
        webhooks().unwrap(body, headers, secret=SECRET)


def test_a_signed_body_that_is_no_text() -> None:
    """Bytes that are not UTF-8 are signed as they are; they hold no event."""
    body = b"\xff"
    stamp = str(int(time.time()))
    mac = hmac.new(KEY, f"msg_1.{stamp}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }
    webhooks().verify_signature(body, headers, secret=SECRET)
    with pytest.raises(ValueError, match="not an event"):
        webhooks().unwrap(body, headers, secret=SECRET)


def test_headers_as_servers_hand_them_over() -> None:
    """ASGI's pairs of bytes, lists of values, field names in any case."""
    found = signed(EVENT)
    for headers in (
        [(name.lower().encode(), value.encode()) for name, value in found.items()],
        {name.encode(): value.encode() for name, value in found.items()},
        {name.upper(): [value] for name, value in found.items()},
        list(found.items()),
    ):
        webhooks().verify_signature(EVENT, headers, secret=SECRET)  # type: ignore[arg-type]  # callers may be untyped


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Timestamp"])
def test_header_fields_that_contradict_each_other(name: str) -> None:
    """Which one was signed cannot be told."""
    pairs = [*signed(EVENT).items(), (name, "1")]
    with pytest.raises(InvalidWebhookSignatureError, match="several header fields"):
        webhooks().verify_signature(EVENT, pairs, secret=SECRET)  # type: ignore[arg-type]  # callers may be untyped
    webhooks().verify_signature(EVENT, [*signed(EVENT).items()] * 2, secret=SECRET)  # type: ignore[arg-type]


def test_signatures_in_several_fields() -> None:
    """They are alternatives, in one field or in several."""
    found = signed(EVENT)
    right = found["Webhook-Signature"].split()[1]
    pairs = [*found.items(), ("webhook-signature", "v1,bm9wZQ==")]
    pairs[2] = ("Webhook-Signature", right)
    webhooks().verify_signature(EVENT, pairs, secret=SECRET)  # type: ignore[arg-type]  # callers may be untyped


@pytest.mark.parametrize("headers", [None, 3, "webhook-id", ["webhook-id"], {1: "a"}, {"webhook-id": None}])
def test_headers_of_another_kind(headers: object) -> None:
    """A `ValueError` says what headers are."""
    with pytest.raises(ValueError, match="headers must be a mapping"):
        webhooks().verify_signature(EVENT, headers, secret=SECRET)  # type: ignore[arg-type]


@pytest.mark.parametrize(("body", "secret"), [(None, SECRET), ({}, SECRET), (EVENT, 3), (EVENT, b"plain")])
def test_arguments_of_another_kind(body: object, secret: object) -> None:
    """Body and secret too."""
    with pytest.raises(ValueError, match="webhook"):
        webhooks().unwrap(body, signed(EVENT), secret=secret)  # type: ignore[arg-type]
