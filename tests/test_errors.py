"""The error tree: official names and constructors, sides, pickling, and no error that loses what it knows."""

from __future__ import annotations

import pickle

import pytest

import openaiasync
from openaiasync import errors
from openaiasync.core.codec.decode import decoder_for
from openaiasync.core.model.headers import Headers
from openaiasync.core.model.meta import Meta, RequestInfo, ResponseInfo
from openaiasync.types.chat import ChatCompletion

REQUEST = RequestInfo("POST", "http://host", "/v1/x")


def response(status: int, raw: bytes = b"") -> ResponseInfo:
    return ResponseInfo(status, Headers(b"X-Request-Id: r1\r\n"), REQUEST, raw)


@pytest.mark.parametrize(
    ("status", "name", "side", "retryable"),
    [
        (400, "BadRequestError", "caller", False),
        (401, "AuthenticationError", "caller", False),
        (403, "PermissionDeniedError", "caller", False),
        (404, "NotFoundError", "caller", False),
        (408, "APIStatusError", "caller", True),
        (409, "ConflictError", "caller", True),
        (418, "APIStatusError", "caller", False),
        (422, "UnprocessableEntityError", "caller", False),
        (429, "RateLimitError", "caller", True),
        (500, "InternalServerError", "server", True),
        (529, "InternalServerError", "server", True),
    ],
)
def test_each_status_has_its_class(status: int, name: str, side: str, retryable: bool) -> None:
    """The class, the side at fault and whether waiting may help follow from the status."""
    error = errors.status_error(status)("m", response=response(status), body={"code": 7, "param": "p", "type": "t"})
    assert type(error).__name__ == name
    assert isinstance(error, openaiasync.APIStatusError)
    assert (error.side, error.retryable, error.status_code, error.request_id) == (side, retryable, status, "r1")
    assert (error.code, error.param, error.type) == ("7", "p", "t")


def test_a_used_up_quota_is_not_retryable() -> None:
    """Waiting brings no quota back."""
    error = errors.RateLimitError("m", response=response(429), body={"code": "insufficient_quota"})
    assert not error.retryable


def test_every_error_survives_pickling() -> None:
    """Errors cross process borders with everything they know."""
    made: list[errors.OpenAIError] = [
        errors.APIConnectionError(request=REQUEST),
        errors.APITimeoutError(REQUEST, clock="stall"),
        errors.IncompleteStreamError(request=REQUEST, partial={"text": "Hel"}),
        errors.APIResponseValidationError(response(200, b"<html>"), b"<html>"),
        errors.NotFoundError("gone", response=response(404), body={"code": "c"}),
        errors.InFlightError("all taken"),
        errors.ContentFilterFinishReasonError(),
        errors.RefusalError("No.", answer=None),
        errors.StructuredOutputError("m", answer=None, problem=openaiasync.ShapeError("At $: wrong.", text="{")),
    ]
    made[0].meta = Meta(200, b"A: b\r\n", REQUEST, tries=3)
    for error in made:
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy).keys() == vars(error).keys()
    first = pickle.loads(pickle.dumps(made[0]))
    assert first.meta is not None
    assert first.meta.headers["a"] == "b"


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every error that is exported stands in the drawing at the top of the module."""
    for name in errors.__all__:
        thing = getattr(errors, name)
        if isinstance(thing, type):
            assert name in (errors.__doc__ or ""), name


def test_timeouts_are_connection_errors_with_a_clock() -> None:
    """`except APIConnectionError` catches timeouts, as with the official client."""
    error = errors.APITimeoutError(REQUEST)
    assert isinstance(error, errors.APIConnectionError)
    assert error.clock == "start"
    assert error.request.url == "http://host/v1/x"


def test_errors_of_answers_to_be_parsed_hold_what_came() -> None:
    """The answer, its words and its tokens are there, whatever was wrong with it; one `except` takes them all."""
    answer = decoder_for(ChatCompletion).decode(
        b'{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"length",'
        b'"message":{"role":"assistant","content":"{\\"a"}}],'
        b'"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}'
    )
    made = [
        errors.LengthFinishReasonError(completion=answer),
        errors.ContentFilterFinishReasonError(completion=answer),
        errors.RefusalError("No.", answer=answer),
        errors.StructuredOutputError("m", answer=answer),
    ]
    for error in made:
        assert isinstance(error, openaiasync.StructuredOutputError)
        assert error.answer is error.completion is answer
        assert error.text == '{"a'
        assert error.usage is not None
        assert error.usage.total_tokens == 5
    assert "5" in str(made[0])
