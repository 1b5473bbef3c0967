"""Error bodies of every shape: the server's words, its code, type and param reach the caller."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conftest import run
from openaiasync import APIStatusError, AsyncOpenAI, Client, RateLimitError
from openaiasync.core.codec.error_body import ErrorDetails, parse_error, read_error
from scripted import Seen, answer, scripted

SAID = ErrorDetails("out of luck")
SHAPES: dict[str, tuple[Any, ErrorDetails]] = {
    "OpenAI": (
        {"error": {"message": "out of luck", "type": "t", "param": "p", "code": "c"}},
        ErrorDetails("out of luck", "c", "t", "p"),
    ),
    "a list of one": ([{"error": {"message": "out of luck", "code": 400}}], SAID._replace(code="400")),
    "Google": (
        [{"error": {"code": 400, "message": "out of luck", "status": "INVALID_ARGUMENT", "details": []}}],
        ErrorDetails("out of luck", "400", "INVALID_ARGUMENT"),
    ),
    "errors": ({"success": False, "errors": [{"code": 5006, "message": "out of luck"}]}, SAID._replace(code="5006")),
    "errors, texts": ({"errors": ["out of luck", "and money"]}, ErrorDetails("out of luck; and money")),
    "errors by field": ({"errors": {"model": ["out of luck"]}}, ErrorDetails("model: out of luck", param="model")),
    "Django": ({"model": ["out of luck"]}, ErrorDetails("model: out of luck", param="model")),
    "GraphQL": (
        {"errors": [{"message": "out of luck", "extensions": {"code": "BAD"}}]},
        SAID._replace(code="BAD"),
    ),
    "JSON:API": (
        {"errors": [{"title": "Bad", "detail": "out of luck", "source": {"pointer": "/data/a"}, "code": "c"}]},
        ErrorDetails("Bad: out of luck", "c", None, "/data/a"),
    ),
    "error in error": ({"error": {"error": {"message": "out of luck", "code": "c"}}}, SAID._replace(code="c")),
    "error, text in it": ({"error": {"error": "out of luck"}}, SAID),
    "error, detail in it": ({"error": {"detail": "out of luck"}}, SAID),
    "error, list in it": ({"error": ["out of luck"]}, SAID),
    "error and message": ({"error": "Bad Request", "message": "out of luck"}, ErrorDetails("Bad Request: out of luck")),
    "NestJS": (
        {"statusCode": 400, "message": ["out of luck", "and money"], "error": "Bad Request"},
        ErrorDetails("Bad Request: out of luck; and money", "400"),
    ),
    "OAuth": (
        {"error": "invalid_client", "error_description": "out of luck"},
        ErrorDetails("invalid_client: out of luck", "invalid_client"),
    ),
    "msg": ({"code": 1004, "msg": "out of luck"}, SAID._replace(code="1004")),
    "MiniMax": ({"base_resp": {"status_code": 1004, "status_msg": "out of luck"}}, SAID._replace(code="1004")),
    "Baidu": ({"error_code": 110, "error_msg": "out of luck"}, SAID._replace(code="110")),
    "Apigee": (
        {"fault": {"faultstring": "out of luck", "detail": {"errorcode": "oauth.v2"}}},
        SAID._replace(code="oauth.v2"),
    ),
    "AWS": (
        {"__type": "com.amazon.coral#ValidationException", "Message": "out of luck"},
        ErrorDetails("out of luck", "ValidationException", "ValidationException"),
    ),
    "SageMaker": ({"ErrorCode": "InternalFailure", "Message": "out of luck"}, SAID._replace(code="InternalFailure")),
    "Lambda": ({"errorMessage": "out of luck", "errorType": "Oops"}, SAID._replace(type="Oops")),
    "Tencent": (
        {"Response": {"Error": {"Code": "AuthFailure", "Message": "out of luck"}, "RequestId": "r"}},
        SAID._replace(code="AuthFailure"),
    ),
    "gRPC gateway": ({"code": 3, "message": "out of luck", "details": []}, SAID._replace(code="3")),
    "problem+json": (
        {"type": "urn:bad", "title": "Bad", "status": 400, "detail": "out of luck"},
        ErrorDetails("Bad: out of luck", type="urn:bad"),
    ),
    "FastAPI": (
        {"detail": [{"type": "missing", "loc": ["body", "messages", 0, "content"], "msg": "Field required"}]},
        ErrorDetails("messages[0].content: Field required", None, "missing", "messages[0].content"),
    ),
    "Mistral": (
        {
            "object": "error",
            "message": {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]},
            "type": "invalid_request_error",
            "code": None,
        },
        ErrorDetails("model: Field required", None, "invalid_request_error", "model"),
    ),
    "OpenRouter": (
        {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": '{"error": "out of luck"}'}}},
        ErrorDetails("Provider returned error: out of luck", "400"),
    ),
    "Elasticsearch": (
        {"error": {"root_cause": [{"reason": "out of luck"}], "type": "t", "reason": "out of luck"}, "status": 400},
        SAID._replace(type="t"),
    ),
    "status and result": ({"status": "error", "result": "out of luck"}, SAID),
    "reason": ({"reason": "out of luck"}, SAID),
    "an object as message": ({"error": {"message": {"detail": "out of luck"}}}, SAID),
    "unknown names": ({"foo": {"bar": "out of luck"}}, ErrorDetails('{"foo": {"bar": "out of luck"}}')),
    "a JSON text": ("out of luck", SAID),
    "JSON in a JSON text": (json.dumps({"error": {"message": "out of luck", "code": "c"}}), SAID._replace(code="c")),
    "JSON in a field": ({"detail": json.dumps({"message": "out of luck", "code": 7})}, SAID._replace(code="7")),
    "Ray, a param that is an object": (
        {"error": {"message": "out of luck", "type": "list_type", "param": {"role": "user"}, "code": "bad"}},
        ErrorDetails("out of luck", "bad", "list_type"),
    ),
}
BYTES: dict[str, tuple[bytes, ErrorDetails]] = {
    "plain text": (b"out of luck\n", SAID),
    "Latin-1": ("kein Glück".encode("latin-1"), ErrorDetails("kein Glück")),
    "UTF-16": ('{"error": "kein Glück"}'.encode("utf-16"), ErrorDetails("kein Glück")),
    "cut UTF-8": ("kein Glück €".encode()[:-1], ErrorDetails("kein Glück \ufffd")),
    "an event": (b'data: {"error": {"message": "out of luck"}}\n\ndata: [DONE]\n\n', SAID),
    "S3": (
        b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>out of &quot;luck&quot;</Message></Error>',
        ErrorDetails('out of "luck"', "NoSuchKey"),
    ),
    "nginx": (
        (
            b"<html><head><title>502 Bad Gateway</title><style>b {}</style></head>"
            b"<body><h1>502 Bad Gateway</h1><script>x < 1</script><hr>nginx</body></html>"
        ),
        ErrorDetails("502 Bad Gateway nginx"),
    ),
    "a page cut in a script": (b"<html><p>out of luck</p><script>a", SAID),
    "cut JSON": (b'{"error": {"mess', ErrorDetails('{"error": {"mess')),
    "no words": (
        b'{"error": {"code": "c", "message": ""}}',
        ErrorDetails('{"error": {"code": "c", "message": ""}}', "c"),
    ),
    "nothing": (b"", ErrorDetails()),
    "half of a surrogate pair": (
        rb'{"error": {"message": "a \ud83d\ude00 b \ud83d \\ud83d", "code": "\uDE00", "param": NaN}}',
        ErrorDetails("a \U0001f600 b \ufffd \\ud83d", "\ufffd"),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_words_in_json(name: str) -> None:
    """Whatever the names and the nesting, words, code, type and param are found; else the body is shown."""
    body, details = SHAPES[name]
    assert read_error(parse_error(json.dumps(body).encode())) == details


@pytest.mark.parametrize("name", BYTES)
def test_words_in_other_bytes(name: str) -> None:
    """Text, markup, other character sets and cut bodies say what they say."""
    raw, details = BYTES[name]
    assert read_error(parse_error(raw)) == details


def test_what_has_no_words_is_shown_in_part() -> None:
    """300 characters of a body are enough to recognise it, and no page floods a log."""
    assert len(read_error({"foo": list(range(1000))}).message) == 301
    assert len(read_error(parse_error(b"<p>" + b"word " * 1000)).message) == 301


@pytest.mark.parametrize("raw", [b"<script" * 40_000, b"<!--" * 60_000, b"<" * 200_000, b"[" * 60_000])
def test_hostile_bodies_take_no_time(raw: bytes) -> None:
    """No body makes reading it quadratic: a hundred times these are read within the suite's patience."""
    for _ in range(20):
        read_error(parse_error(raw))


async def _refused(client: Client, how: str) -> APIStatusError:
    with pytest.raises(APIStatusError) as caught:
        if how == "stream":
            async with client.chat.stream("Hi.") as stream:
                async for _ in stream:
                    pass
        elif how == "raw":
            await client.chat.completions.with_raw_response.create(messages=[{"role": "user", "content": "Hi."}])
        else:
            await client.chat("Hi.")
    return caught.value


@pytest.mark.parametrize("how", ["whole", "stream", "raw"])
@pytest.mark.parametrize("name", ["a list of one", "FastAPI", "AWS", "unknown names"])
def test_the_errors_of_calls_have_them(name: str, how: str) -> None:
    """The public error has the words in its text, and code, type and param as attributes."""
    body, details = SHAPES[name]

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(json.dumps(body).encode(), 422))

    async def main() -> None:
        async with scripted(script) as server:
            async with Client(api_base=server.url, model="m", max_retries=0) as client:
                error = await _refused(client, how)
                assert details.message in str(error)
                assert (error.code, error.type, error.param) == details[1:]
                assert error.body == body
            async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as official:
                with pytest.raises(APIStatusError, match="422") as caught:
                    await official.models.list()
                assert caught.value.code == details.code

    run(main())


def test_an_empty_quota_is_found_in_any_shape() -> None:
    """What is not to be tried again says so, however deep it says it."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        body = {"error": {"error": {"message": "pay first", "code": "insufficient_quota"}}}
        writer.write(answer(json.dumps(body).encode(), 429))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            with pytest.raises(RateLimitError, match="pay first") as caught:
                await client.chat("Hi.")
            assert (caught.value.retryable, caught.value.tries) == (False, 1)

    run(main())
