"""Asking for JSON in the ways that servers take: what is sent, what counts as a refusal, what is remembered."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import msgspec
import pytest

from openaiasync import Client, errors, shape_of
from openaiasync.chat.format_fallback import _KNOWN, FormatFallback, with_instructions
from openaiasync.core.model.headers import Headers
from openaiasync.core.model.meta import RequestInfo, ResponseInfo
from openaiasync.core.schema.structured import ShapeError


class City(msgspec.Struct):
    name: str
    people: int


class River(msgspec.Struct):
    length: float


CITY, RIVER = shape_of(City), shape_of(River)
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Ulm?"}], "temperature": 0}


def refusal(status: int = 400, body: Any = None, **fields: Any) -> errors.APIStatusError:
    response = ResponseInfo(status, Headers(b""), RequestInfo("POST", "http://host", "/v1/x"), b"")
    return errors.status_error(status)("no", response=response, body=fields if body is None else body)


def ladder(client: Client, shape: Any = CITY, model: str | None = "m", chosen: str | None = None) -> FormatFallback:
    return FormatFallback(client.chat._calls, shape, model, chosen)


@pytest.fixture
def client() -> Client:
    return Client(api_base="http://127.0.0.1:9/v1", model="default")


def test_each_rung_asks_in_its_own_way(client: Client) -> None:
    """By schema; as any JSON object with the schema in the prompt, which has to say JSON; in the prompt alone."""
    by_schema = ladder(client, chosen="json_schema").params(ASKED)
    assert by_schema["response_format"] == CITY.response_format()
    assert by_schema["messages"] is ASKED["messages"]
    as_object = ladder(client, chosen="json_object").params(ASKED)
    assert as_object["response_format"] == {"type": "json_object"}
    in_words = ladder(client, chosen="prompt").params(ASKED)
    assert "response_format" not in in_words
    for made in (as_object, in_words):
        assert made["messages"] == [{"role": "user", "content": f"Ulm?\n\n{CITY.instructions()}"}]
        assert "JSON" in made["messages"][0]["content"]
        assert made["temperature"] == 0
    assert ASKED["messages"] == [{"role": "user", "content": "Ulm?"}]


def test_instructions_go_to_the_users_last_words() -> None:
    """Also where they are parts; tools' answers after them do not matter; without a user they stand alone."""
    parts = [{"type": "image_url", "image_url": {"url": "data:"}}]
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": parts}, {"role": "tool", "content": "t"}]
    made = with_instructions(messages, "W")
    assert made[0] is messages[0]
    assert made[1] == {"role": "user", "content": [*parts, {"type": "text", "text": "W"}]}
    assert made[2] is messages[2]
    assert len(parts) == 1
    assert with_instructions([{"role": "system", "content": "s"}], "W")[1:] == [{"role": "user", "content": "W"}]
    assert with_instructions([], "W") == [{"role": "user", "content": "W"}]


@pytest.mark.parametrize(
    "error",
    [
        refusal(400, param="response_format"),
        refusal(400, param="response_format.type", code="invalid_value"),
        refusal(400, code="invalid_json_schema"),
        refusal(400, type="unsupported_response_format"),
        refusal(400),
        refusal(400, message="'response_format' nonsense", code=400, type="invalid_request_error"),
        refusal(400, body="Bad Request"),
        refusal(422, body={"detail": [{"loc": ["body", "response_format", "type"], "msg": "x"}]}),
        refusal(422, body={"detail": "no"}),
        refusal(501),
    ],
)
def test_a_refusal_of_the_format_goes_one_rung_down(client: Client, error: Exception) -> None:
    """What names the format, and what names nothing, leads to the next way of asking."""
    one = ladder(client)
    assert one.level == "json_schema"
    one.refused(error)
    assert one.level == "json_object"
    one.refused(error)
    assert one.level == "prompt"


@pytest.mark.parametrize(
    "error",
    [
        refusal(400, param="messages"),
        refusal(400, param="temperature", code="unsupported_value"),
        refusal(400, code="context_length_exceeded"),
        refusal(422, body={"detail": [{"loc": ["body", "messages"], "msg": "x"}]}),
        refusal(401),
        refusal(404),
        refusal(429),
        refusal(500),
        errors.APIConnectionError(request=None),
    ],
)
def test_any_other_failure_is_raised_at_once(client: Client, error: Exception) -> None:
    """A request that is wrong in another way, or a server that fails, is not asked three times."""
    one = ladder(client)
    with pytest.raises(type(error)) as caught:
        one.refused(error)
    assert caught.value is error
    assert one.level == "json_schema"


def test_when_every_way_is_refused_the_first_refusal_is_raised(client: Client) -> None:
    """Then it was not about the format: nothing is remembered, and the error is that of the request as it was meant."""
    one, first = ladder(client), refusal(400)
    one.refused(first)
    one.refused(refusal(400))
    with pytest.raises(errors.BadRequestError) as caught:
        one.refused(refusal(400))
    assert caught.value is first
    assert ladder(client).level == "json_schema"


def test_after_an_answer_a_refusal_is_about_something_else(client: Client) -> None:
    """In a later round of the same turn the format is known to be taken."""
    one, error = ladder(client), refusal(400)
    one.accepted()
    with pytest.raises(errors.BadRequestError):
        one.refused(error)


def test_what_worked_is_remembered_per_server_and_model(client: Client) -> None:
    """The next turn begins there, on clients made from this one too; other models and servers begin anew."""
    one = ladder(client)
    one.refused(refusal())
    assert ladder(client).level == "json_schema", "a refusal alone proves nothing"
    one.accepted()
    assert ladder(client).level == "json_object"
    assert ladder(client, RIVER).level == "json_object"
    assert ladder(client.with_options(max_retries=0)).level == "json_object"
    assert ladder(client, model="other").level == "json_schema"
    assert ladder(client.with_options(base_url="http://127.0.0.1:8/v1")).level == "json_schema"
    assert ladder(Client(api_base="http://127.0.0.1:9/v1")).level == "json_schema"


def test_the_default_model_is_the_one_remembered(client: Client) -> None:
    """A call that names the client's default model and one that leaves it out know the same."""
    one = ladder(client, model=None)
    one.refused(refusal())
    one.accepted()
    assert ladder(client, model="default").level == "json_object"


def test_a_server_that_takes_schemas_refuses_just_this_one(client: Client) -> None:
    """Where another schema was taken before, only the refused one is asked for in another way."""
    ladder(client, RIVER).accepted()
    one = ladder(client, CITY)
    one.refused(refusal(400, param="response_format"))
    one.accepted()
    assert ladder(client, CITY).level == "json_object"
    assert ladder(client, RIVER).level == "json_schema"


def test_a_chosen_way_is_kept(client: Client) -> None:
    """With `format` nothing is tried out and nothing remembered; an unknown name is refused."""
    one, error = ladder(client, chosen="json_object"), refusal(400, param="response_format")
    with pytest.raises(errors.BadRequestError) as caught:
        one.refused(error)
    assert caught.value is error
    one.accepted()
    assert ladder(client).level == "json_schema"
    with pytest.raises(ValueError, match="'json_schema', 'json_object', 'prompt'"):
        ladder(client, chosen="yaml")


def test_text_without_json_means_that_the_server_does_not_heed_the_format(client: Client) -> None:
    """It is told the schema in words from the repair on; a misfit is mended with the rung as it is."""
    one = ladder(client)
    one.accepted()
    message = one.repair(ShapeError("At $.people: wrong.", path="$.people"))
    assert "At $.people: wrong." in message["content"]
    assert one.level == "json_schema"
    one.repair(ShapeError("It is not valid JSON.", is_json=False))
    assert one.level == "prompt"
    assert ladder(client).level == "prompt"
    assert ladder(client, RIVER).level == "json_schema"
    fixed = ladder(client, chosen="json_schema")
    fixed.repair(ShapeError("It is not valid JSON.", is_json=False))
    assert fixed.level == "json_schema"


def test_memory_goes_with_the_client_and_the_type() -> None:
    """Nothing is kept of clients and schemas that are gone."""
    client = Client(api_base="http://127.0.0.1:9/v1")
    ladder(client, RIVER).accepted()
    one = ladder(client, shape_of({"type": "object", "properties": {}}))
    one.refused(refusal())
    one.accepted()
    assert len(one._known.shapes) == 1
    known = one._known
    del one
    gc.collect()
    assert len(known.shapes) == 0
    upstream = weakref.ref(client.chat._calls.upstream)
    assert upstream() in _KNOWN
    del client
    gc.collect()
    assert upstream() is None
