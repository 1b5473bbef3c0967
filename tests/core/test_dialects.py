"""Refusals in the words of each server: what they mean, and the numbers that they name."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cputime import assert_linear, cpu_seconds
from openaiasync.core.codec.dialects import (
    CONTEXT_OVERFLOWS,
    context_overflow,
    exceeds_limit,
    failed_generation,
    lacks_model,
    names_parameter,
    refuses_default,
    refuses_format,
    tells_limit,
)
from openaiasync.core.model.headers import Headers
from openaiasync.core.model.meta import RequestInfo, ResponseInfo
from openaiasync.errors import APIError, APIStatusError, status_error

REQUEST = RequestInfo("POST", "http://server", "/v1/chat/completions")

TEXTS = Path(__file__).with_name("context_overflows.txt")


def overflows() -> list[tuple[str, int | None, int | None]]:
    """Literal texts of servers, the limit that they name, and how many tokens they counted in the prompt."""
    found: list[tuple[str, int | None, int | None]] = []
    for line in TEXTS.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            limit, prompt, text = line.split(" | ", 2)
            found.append((text, None if limit == "-" else int(limit), None if prompt == "-" else int(prompt)))
    return found


OVERFLOWS = overflows()

OTHERS = [
    "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for claude-3-5-sonnet-20241022",
    "Invalid 'messages[0].content': string too long. Expected a string with maximum length 1048576",
    "messages.1.content.0.image.source.base64: image exceeds 5 MB maximum: 6291456 bytes > 5242880 bytes",
    "Too many tokens, please wait before trying again.",
    "Request too large for gpt-4 in organization org on tokens per min (TPM): Limit 10000, Requested 12000.",
    "model requires more system memory (12.0 GiB) than is available (8.0 GiB)",
    "Unsupported parameter: context. Remove it and try again.",
    "temperature must be at most 2",
    "Invalid input: max_tokens exceeds the model's maximum of 4096 output tokens",
    "the prompt was flagged; the model is not available",
]


def refusal(body: Any, status: int = 400) -> APIStatusError:
    """The error as the client raises it for a body."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    response = ResponseInfo(status, Headers(b""), REQUEST, raw)
    inner = body.get("error", body) if isinstance(body, dict) else body
    text = inner.get("message", "") if isinstance(inner, dict) else str(inner)
    return status_error(status)(f"{status} from POST http://server: {text}", response=response, body=inner)


@pytest.mark.parametrize(("text", "limit", "prompt"), OVERFLOWS, ids=range(len(OVERFLOWS)))
def test_each_servers_words(text: str, limit: int | None, prompt: int | None) -> None:
    """They are recognised with the numbers they name, wherever the text stands and whatever the status."""
    bodies: list[Any] = [
        {"error": {"message": text, "type": "BadRequestError", "param": "input_tokens", "code": 400}},
        {"error": text},
        {"object": "error", "message": text, "type": "invalid_request_error"},
        {"detail": text},
        text,
        # OpenRouter wraps what it was answered, as text in the text.
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": json.dumps({"message": text})},
            }
        },
    ]
    for body in bodies:
        for status in (400, 413, 422, 500):
            found = context_overflow(refusal(body, status))
            assert found is not None, body
            assert found[:2] == (limit, prompt), body
    found = context_overflow(APIError(text, REQUEST, body=None))  # in mid-stream
    assert found is not None
    assert found[:2] == (limit, prompt)


def test_every_entry_has_its_text() -> None:
    """No entry is without a server, a source and a literal text that it alone, or it first, explains."""
    for dialect in CONTEXT_OVERFLOWS:
        assert dialect.servers
        assert dialect.source
        assert any(dialect.pattern.search(text) for text, _, _ in OVERFLOWS), dialect


@pytest.mark.parametrize("text", OTHERS, ids=range(len(OTHERS)))
def test_other_refusals_are_none(text: str) -> None:
    """Limits of the pace, of answers and of files are no matter of the prompt's length."""
    for status in (400, 413, 429, 500):
        assert context_overflow(refusal({"error": {"message": text}}, status)) is None


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_a_refusal_of_the_caller_is_never_one(status: int) -> None:
    """Whatever the words: a session must not shorten its prompt for a quota."""
    assert context_overflow(refusal({"error": {"message": OVERFLOWS[0][0]}}, status)) is None


@pytest.mark.parametrize(
    "error",
    [
        {"code": "context_length_exceeded"},
        {"type": "exceed_context_size_error"},
        {"code": "model_max_prompt_tokens_exceeded"},
        {"code": "tokens_limit_reached"},
        {"code": "1261"},
        {"type": "ContextWindowExceededError"},
    ],
)
def test_codes_say_it_without_words(error: dict[str, str]) -> None:
    """Where a code names the cause, the text may be anything."""
    assert context_overflow(refusal({"error": {"message": "no", **error}})) == (None, None, None)


def test_llamacpps_fields() -> None:
    """llama.cpp names both numbers in fields of their own."""
    error = {"message": "no", "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}
    assert context_overflow(refusal({"error": error})) == (4096, 5000, None)


@pytest.mark.parametrize("status", [400, 404, 422, 500, 501, 502])
@pytest.mark.parametrize(
    "body",
    [
        "Setting {'encoding_format': 'base64'} is not supported by ollama",
        {"error": {"message": "Invalid value", "param": "encoding_format"}},
        {"error": {"message": 'json: unknown field "encoding_format"'}},
        {
            "detail": [
                {"type": "extra_forbidden", "loc": ["body", "encoding_format"], "msg": "Extra inputs", "input": "x"}
            ]
        },
        {"message": "Unsupported encoding format"},
        {"error": "encodingFormat must be float"},
    ],
)
def test_a_default_is_named(body: Any, status: int) -> None:
    """In a field or in words, however it is spelt, whatever the status."""
    assert refuses_default(refusal(body, status), "encoding_format")


def test_a_refusal_of_something_else_is_not_taken_for_one_of_a_default() -> None:
    """Another field, another cause, or an echo of the request."""
    for body in (
        {"error": {"message": "no such model", "param": "model"}},
        {"error": {"message": OVERFLOWS[0][0]}},
        {"error": {"message": "no", "code": "model_not_found"}},
        {"error": {"message": "not today"}},
        {"detail": [{"loc": ["body", "input"], "msg": "too short", "input": {"encoding_format": "base64"}}]},
    ):
        assert not refuses_default(refusal(body), "encoding_format")
    for status in (401, 403, 404, 429, 500):
        assert not refuses_default(refusal({"error": {"message": "no"}}, status), "encoding_format")
    for body in ("", {"detail": "Invalid request."}):  # it may be: nothing is named
        assert refuses_default(refusal(body), "encoding_format")


OTHER_CAUSES = [
    "Invalid image: could not decode",
    "API key not valid. Please pass a valid API key.",
    "API Key expired. Please renew the API key.",
    "User location is not supported for the API use.",
    "The input contains sensitive information, please revise",
    "Invalid role: foo is not one of 'system', 'user'",
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "Invalid model name passed in model=x. Call `/v1/models` to view available models for your key.",
    "Your credit balance is too low to access the API.",
    "Budget has been exceeded! Current cost: 1.0, Max budget: 0.5",
    "Model is overloaded, try again later",
    "Output blocked by content filtering policy",
]
FORM_OR_NOTHING = [
    "Extra inputs are not permitted",
    "Bad Request",
    "unknown field",
    "JSON mode is not supported",
    "This option is not supported by the model",
    "not implemented",
    "",
]


@pytest.mark.parametrize("text", OTHER_CAUSES)
def test_a_400_with_another_cause_is_not_sent_again(text: str) -> None:
    """Its words name what is wrong, and it is neither a parameter that was added nor the format of the answer."""
    error = refusal({"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}})
    assert not refuses_default(error, "encoding_format")
    assert not refuses_default(error, "stream_options")
    assert not refuses_format(error)


@pytest.mark.parametrize("text", FORM_OR_NOTHING)
def test_a_400_about_the_form_or_without_a_cause(text: str) -> None:
    """It may be about what was added: a second request without it tells."""
    error = refusal({"error": {"message": text}} if text else "")
    assert refuses_default(error, "encoding_format")
    assert refuses_format(error)
    for vague in ("Provider returned error", "Internal error"):  # a schema is what providers refuse most
        assert refuses_format(refusal({"error": {"message": vague}}))


def test_formats() -> None:
    """llama-cpp-python refuses a schema with a 500 that only its words explain."""
    text = (
        "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or "
        "'json_object'\", 'input': 'json_schema', 'ctx': {'expected': \"'text' or 'json_object'\"}}]"
    )
    body = {"error": {"message": text, "type": "internal_server_error", "param": None, "code": None}}
    assert refuses_format(refusal(body, 500))
    assert not refuses_format(refusal({"error": {"message": "out of memory"}}, 500))
    assert not refuses_format(refusal(body, 429))
    assert not refuses_format(refusal({"error": {"message": "Invalid JSON schema", "param": "tools[0].parameters"}}))


def test_a_models_slip() -> None:
    """Groq holds back what does not fit, with what the model wrote."""
    error = {"message": "Failed to generate JSON.", "code": "json_validate_failed", "failed_generation": "{"}
    assert failed_generation(refusal({"error": error})) == "{"
    assert failed_generation(refusal({"error": {"message": "no", "code": "json_validate_failed"}})) == ""
    assert failed_generation(refusal({"error": {"message": "no"}})) is None


def test_words_in_a_message_need_to_be_exact_where_a_field_is_named() -> None:
    """A message about another parameter may mention JSON schemas by the way."""
    assert not names_parameter(refusal({"error": {"message": "a JSON schema", "param": "tools"}}), ["x", "json_schema"])
    assert names_parameter(refusal({"error": {"message": "a JSON schema"}}), ["x", "json_schema"])


def test_what_is_set_aside_for_the_answer() -> None:
    """A server that adds a limit of its own says so."""
    answers = [
        found.answer for text, _, _ in OVERFLOWS if (found := context_overflow(APIError(text, REQUEST, body=None)))
    ]
    assert sorted(answer for answer in answers if answer) == [64, 100, 512, 1024, 4000, 4100, 5000, 18000, 21333, 64000]


UNKNOWN_MODELS = [
    ("The model `gpt-9` does not exist or you do not have access to it.", True),
    ("model 'x' not found", True),
    ("Model not found, inaccessible, and/or not deployed", True),
    ("Unknown model: x", True),
    ("no such model", True),
    ("The model " + "x" * 180 + " does not exist", True),
    ("The model " + "x" * 300 + " does not exist", False),
    ("supermodels are not found here", False),
    ("The page was not found. See the model list.", False),
]


@pytest.mark.parametrize(("text", "lacks"), UNKNOWN_MODELS)
def test_unknown_models(text: str, lacks: bool) -> None:
    """A 404 is about the model if its text says so, near the model's name."""
    assert lacks_model(refusal({"error": {"message": text}}, 404)) is lacks


@pytest.mark.parametrize("text", ["request too large ", "model ", "prompt ", "prompt exceeds ", "input (1 tokens "])
def test_searching_is_linear(text: str) -> None:
    """Texts that nearly have a known wording many times cost no more than other texts of their length."""

    def look(search: Callable[[APIError], object], status: int) -> None:
        errors = {times: refusal({"error": {"message": text * times}}, status) for times in (40, 160)}
        assert_linear(lambda times: search(errors[times]), 40)

    look(exceeds_limit, 429)
    look(lacks_model, 404)
    look(context_overflow, 400)


def test_a_long_error_costs_no_more_than_a_short_one() -> None:
    """An error that echoes a long request would otherwise block the event loop for a second."""
    echoed = "lorem ipsum dolor, 12 sit amet " * 2000
    long = refusal({"error": {"message": f"Bad. {echoed}", "echo": [echoed]}})
    short = refusal({"error": {"message": f"Bad. {echoed}"[:4000]}})
    searches: list[Callable[[APIError], object]] = [context_overflow, refuses_format, tells_limit]
    for search in searches:
        assert cpu_seconds(partial(search, long)) < 6 * cpu_seconds(partial(search, short))
    words = "This model's maximum context length is 100 tokens. However, your messages resulted in 120 tokens."
    found = context_overflow(refusal({"error": {"message": f"{words} {echoed}"}}))
    assert found is not None
    assert (found.limit, found.prompt) == (100, 120)
