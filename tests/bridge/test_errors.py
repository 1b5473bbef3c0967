"""`openaiasync.bridge.errors`: by cause to the exception that httpx2 raises, and in mid-answer the official one too."""

from __future__ import annotations

import pickle
import sys
from types import ModuleType
from typing import Any

import httpx2
import pytest

from openaiasync.bridge.errors import translated
from openaiasync.core.http.codings import CodingError
from openaiasync.errors import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    ConfigurationError,
    InFlightError,
)

REQUEST = httpx2.Request("GET", "http://x/")


def failed(kind: str) -> tuple[APIConnectionError, str]:
    return APIConnectionError(message="m", request=None), kind


CAUSES: list[tuple[Any, str | None, bool, str]] = [
    (*failed("dns"), False, "ConnectError"),
    (*failed("refused"), True, "ConnectError"),
    (*failed("tls"), False, "ConnectError"),
    (*failed("proxy"), False, "ProxyError"),
    (*failed("reset"), False, "ReadError"),
    (*failed("reset"), True, "WriteError"),
    (*failed("eof"), False, "RemoteProtocolError"),
    (*failed("eof"), True, "WriteError"),
    (*failed("protocol"), True, "RemoteProtocolError"),
    (APITimeoutError(None, clock="connect"), None, True, "ConnectTimeout"),
    (APITimeoutError(None, clock="queue"), None, False, "PoolTimeout"),
    (APITimeoutError(None, clock="start"), None, False, "ReadTimeout"),
    (APITimeoutError(None, clock="start"), None, True, "WriteTimeout"),
    (APITimeoutError(None, clock="stall"), None, False, "ReadTimeout"),
    (APITimeoutError(None, clock="deadline"), None, False, "ReadTimeout"),
    (InFlightError("m"), None, False, "PoolTimeout"),
    (ConfigurationError("m"), None, False, "LocalProtocolError"),
    (ClientClosedError("m"), None, False, "ConnectError"),
    (ClientClosedError("m"), "closed", False, "ReadError"),
    (CodingError("m"), None, False, "DecodingError"),
]


@pytest.mark.parametrize(("error", "reason", "unsent", "name"), CAUSES)
def test_each_cause_has_its_class(error: Any, reason: str | None, unsent: bool, name: str) -> None:
    """The class is that of httpx2 exactly, with our message and the request on it."""
    made = translated(httpx2, REQUEST, error, reason, unsent=unsent)
    assert type(made) is getattr(httpx2, name)
    assert str(made) == str(error)
    assert made.request is REQUEST  # type: ignore[attr-defined]


class _Theirs(Exception):
    """As the official client's are built: what they need comes by keywords."""

    def __init__(self, *, message: str = "Connection error.", request: Any) -> None:
        raise AssertionError("its constructor takes other things than that of httpx2")


class _TheirTimeout(_Theirs):
    pass


def test_in_mid_answer_it_is_the_official_class_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the official client is in use, what breaks an answer is caught by its class and by that of httpx2."""
    openai: Any = ModuleType("openai")
    openai.APIConnectionError, openai.APITimeoutError = _Theirs, _TheirTimeout
    monkeypatch.setitem(sys.modules, "openai", openai)
    made: Any = translated(httpx2, REQUEST, *failed("eof"), midway=True)
    assert isinstance(made, httpx2.RemoteProtocolError)
    assert isinstance(made, _Theirs)
    assert not isinstance(made, _TheirTimeout)
    assert (made.message, made.body, made.request, str(made)) == ("m", None, REQUEST, "m")
    made = translated(httpx2, REQUEST, APITimeoutError(None, message="slow", clock="stall"), midway=True)
    assert isinstance(made, httpx2.ReadTimeout)
    assert isinstance(made, _TheirTimeout)
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), str(again)) == (httpx2.ReadTimeout, "slow")


def test_without_the_official_client_it_is_httpx2s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made up where nobody could catch it."""
    monkeypatch.delitem(sys.modules, "openai", raising=False)
    assert type(translated(httpx2, REQUEST, *failed("eof"), midway=True)) is httpx2.RemoteProtocolError
