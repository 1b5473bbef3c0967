"""The base of answers: unknown fields, dumps, copies and comparison."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any, ClassVar, Literal

import msgspec
import pytest

from openaiasync.core.model.base import (
    BaseModel,
    OpenModel,
    keep,
    one_of,
    put_extra,
)
from openaiasync.core.model.meta import Meta
from openaiasync.core.model.plain import parse_json
from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openaiasync.types.responses import Response, ResponseOutputMessage, ResponseOutputText


class Usage(BaseModel, kw_only=True):
    total: int
    cached: int | None = None


class Part(BaseModel, kw_only=True, tag_field="type", tag="part"):
    type: ClassVar[Literal["part"]] = "part"
    text: str
    note: str | None = None


class Answer(BaseModel, kw_only=True):
    id: str
    parts: list[Part]
    title: str | None
    usage: Usage | None = None
    from_: int | None = msgspec.field(name="from", default=None)
    labels: dict[str, Any] | None = None


RAW = b'{"id":"a","parts":[{"type":"part","text":"x","note":null},{"type":"part","text":"y"}],"title":null,"from":3}'


def answer(raw: bytes = RAW) -> Answer:
    made = msgspec.json.decode(raw, type=Answer)
    return keep(made, raw, None)


def test_a_top_level_answer_dumps_exactly_what_came() -> None:
    """Nothing is lost and nothing added: a null that came is there, a field that did not come is not."""
    assert answer().to_dict() == json.loads(RAW)
    assert json.loads(answer().to_json()) == json.loads(RAW)
    assert answer().model_fields_set == {"id", "parts", "title", "from_"}


def test_a_changed_answer_dumps_what_it_holds_now() -> None:
    """The values come from the object, the kept bytes only tell which fields were set."""
    changed = answer()
    changed.id = "b"
    changed.usage = Usage(total=2)
    changed.parts.append(Part(text="z"))
    changed.from_ = None
    dumped = changed.to_dict()
    assert dumped["id"] == "b"
    assert dumped["usage"] == {"total": 2}
    assert dumped["from"] is None
    assert [part["text"] for part in dumped["parts"]] == ["x", "y", "z"]
    assert dumped["parts"][2] == {"type": "part", "text": "z"}


def test_a_part_dumps_its_required_fields_and_what_is_not_none() -> None:
    """Parts do not keep bytes: required fields are there always, optional ones when they hold something."""
    assert answer().parts[0].to_dict() == {"type": "part", "text": "x"}
    made = Answer(id="a", parts=[], title=None)
    assert made.to_dict() == {"id": "a", "parts": [], "title": None}
    assert made.model_fields_set == {"id", "parts", "title"}


def test_model_dump_gives_every_declared_field_under_its_python_name() -> None:
    """As pydantic does: unset fields are `None`, wire names only when asked for."""
    assert answer().model_dump() == {
        "id": "a",
        "parts": [{"type": "part", "text": "x", "note": None}, {"type": "part", "text": "y", "note": None}],
        "title": None,
        "usage": None,
        "from_": 3,
        "labels": None,
    }
    assert answer().model_dump(by_alias=True, include={"from"}) == {"from": 3}
    assert answer().model_dump(exclude={"parts", "labels", "usage"}, exclude_none=True) == {"id": "a", "from_": 3}
    assert answer().model_dump(exclude_unset=True, by_alias=True) == json.loads(RAW)
    assert answer().model_dump(exclude_defaults=True, include={"title", "usage"}) == {"title": None}
    assert json.loads(answer().model_dump_json()) == answer().model_dump()


def test_to_json_is_indented_and_can_be_one_line() -> None:
    """Two spaces as the official client, no spaces at all without indent, text as it is and not escaped."""
    part = Part(text="né")
    assert part.to_json() == '{\n  "type": "part",\n  "text": "né"\n}'
    assert part.to_json(indent=None) == '{"type":"part","text":"né"}'


def test_json_text_survives_what_msgspec_refuses() -> None:
    """NaN and lone surrogates, which lenient answers may hold, are written so that they can be read again."""
    held = Answer(id="\ud800é", parts=[], title=None, labels={"x": math.nan})
    again = parse_json(held.to_json(indent=None).encode())
    assert again["id"] == "\ud800é"
    assert math.isnan(again["labels"]["x"])


def test_values_that_are_no_json_are_made_json_on_request() -> None:
    """What users put into free-form fields is converted in JSON mode and left alone in Python mode."""
    held = Answer(id="a", parts=[], title=None, labels={"x": {1}})
    assert held.to_dict()["labels"] == {"x": {1}}
    assert held.to_dict(mode="json")["labels"] == {"x": [1]}


def test_unknown_fields_are_attributes_and_extra() -> None:
    """They show in dumps, repr and comparison, and go along with every kind of copy."""
    first = answer()
    put_extra(first, "speed", {"tps": 3.5})
    put_extra(first.parts[0], "odd", None)
    assert vars(first)["speed"] == first.extra["speed"] == {"tps": 3.5}
    assert first.to_dict()["speed"] == {"tps": 3.5}
    assert first.to_dict()["parts"][0]["odd"] is None
    assert "speed={'tps': 3.5}" in repr(first)
    assert first != answer()
    for other in (copy.copy(first), copy.deepcopy(first), pickle.loads(pickle.dumps(first)), first.model_copy()):
        assert other == first
        assert other.extra == {"speed": {"tps": 3.5}}
        assert other.parts[0].extra == {"odd": None}
        assert other.to_dict() == first.to_dict()
        assert "_raw" not in other.extra


@pytest.mark.parametrize("name", ["to_dict", "extra", "_raw", "_meta", "_more", "id", "__class__", "__dict__"])
def test_no_unknown_field_hides_a_method_or_private_state(name: str) -> None:
    """A server that names a field like a method cannot break the object; the value is found in `extra`."""
    held = answer()
    put_extra(held, name, "evil")
    assert held.extra == {name: "evil"}
    assert held.id == "a"
    assert type(held) is Answer
    copied = copy.copy(held)
    put_extra(copied, "copy", 1)
    assert held.extra == {name: "evil"}
    if name != "id":
        assert held.to_dict() == {**json.loads(RAW), name: "evil"}


def test_a_missing_attribute_is_an_attribute_error() -> None:
    """Nothing answers for names that neither the description nor the server knows."""
    with pytest.raises(AttributeError):
        answer().nothing  # type: ignore[attr-defined]  # noqa: B018


def test_copies_are_shallow_or_deep_as_asked() -> None:
    """A shallow copy shares its lists, a deep one shares nothing; neither shares the unknown fields' place."""
    first = answer()
    assert first.model_copy().parts is first.parts
    deep = first.copy(deep=True)
    assert deep.parts == first.parts
    assert deep.parts[0] is not first.parts[0]
    changed = first.model_copy(update={"id": "b", "own": 1})
    assert (changed.id, changed.extra) == ("b", {"own": 1})
    assert (first.id, first.extra) == ("a", {})


def test_replace_changes_known_names_only() -> None:
    """Fields and unknown fields that are there may be replaced; another name is an error."""
    first = answer()
    put_extra(first, "speed", 1)
    other = first.replace(id="b", speed=2)
    assert (other.id, other.extra["speed"], first.id) == ("b", 2, "a")
    assert other.__replace__(id="c").extra == {"speed": 2}
    with pytest.raises(TypeError, match="spede"):
        first.replace(spede=1)


def test_construct_takes_anything() -> None:
    """For tests and fakes: missing fields are `None` or empty lists, unknown ones extra, wire names understood."""
    made = Answer.model_construct(id=5, **{"from": 7}, other=1)
    assert (made.id, made.title, made.from_, made.extra) == (5, None, 7, {"other": 1})
    assert made.parts == []


CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "system_fingerprint": None,
    "timings": {"predicted_n": 7},
    "speed": {"tps": 3.5},
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": None,
            "token_ids": [1, 2],
            "message": {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "reasoning_content": "Hm.",
                "mood": "good",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
        }
    ],
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "failed",
    "error": {"code": "server_error", "message": "broken"},
    "model": "m",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi.", "annotations": [], "confidence": 0.5}],
        }
    ],
}


def built(kind: Any, saved: dict[str, Any], way: str) -> Any:
    text = json.dumps(saved)
    ways: dict[str, Any] = {
        "call": lambda: kind(**saved),
        "construct": lambda: kind.construct(**saved),
        "model_construct": lambda: kind.model_construct(**saved),
        "model_validate": lambda: kind.model_validate(saved),
        "model_validate_json": lambda: kind.model_validate_json(text),
        "bytes": lambda: kind.model_validate_json(text.encode()),
    }
    return ways[way]()


WAYS = ["call", "construct", "model_construct", "model_validate", "model_validate_json", "bytes"]


@pytest.mark.parametrize("way", WAYS)
def test_a_saved_answer_is_built_again_whole(way: str) -> None:
    """Every part is an object of its class, unknown fields are kept at every depth, and the dump is what was saved."""
    saved = copy.deepcopy(CHAT)
    chat = built(ChatCompletion, saved, way)
    assert saved == CHAT
    assert type(chat) is ChatCompletion
    choice = chat.choices[0]
    assert isinstance(choice.message, ChatCompletionMessage)
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].function.name == "f"
    assert (chat.reasoning, chat.text) == ("Hm.", "")
    assert chat.extra == {"timings": {"predicted_n": 7}, "speed": {"tps": 3.5}} == chat.model_extra
    assert choice.extra == {"token_ids": [1, 2]}
    assert choice.message.extra == {"reasoning_content": "Hm.", "mood": "good"}
    assert chat.to_dict() == CHAT
    assert choice.message.to_dict() == CHAT["choices"][0]["message"]
    assert json.loads(chat.to_json()) == CHAT
    assert {"system_fingerprint", "choices"} <= chat.model_fields_set
    assert "usage" not in chat.model_fields_set


@pytest.mark.parametrize("way", WAYS)
def test_a_saved_response_finds_its_members_of_unions(way: str) -> None:
    """Members of unions are told by their tag; a declared `error` is a value; `type` may be given to a class."""
    response = built(Response, RESPONSE, way)
    assert isinstance(response.output[0], ResponseOutputMessage)
    assert response.output[0].content[0].extra == {"confidence": 0.5}
    assert response.error is not None
    assert response.error.message == "broken"
    assert response.output_text == "Hi."
    assert response.to_dict() == RESPONSE
    assert ResponseOutputText(type="output_text", text="x", annotations=[]).to_dict() == {  # type: ignore[call-arg]
        "type": "output_text",
        "text": "x",
        "annotations": [],
    }


def test_a_dump_of_any_kind_is_built_again() -> None:
    """What `to_dict`, `model_dump` and their JSON forms write comes back equal, Python's names included."""
    held = Answer.model_validate(json.loads(RAW))
    for saved in (
        held.to_dict(),
        held.model_dump(),
        held.model_dump(by_alias=True),
        held.model_dump(exclude_none=True),
    ):
        again = Answer(**saved)
        assert again == held
        assert again.from_ == 3
    assert Answer.model_validate_json(held.model_dump_json()) == held
    assert Answer.model_validate(held) is held


def test_building_is_as_lenient_as_reading() -> None:
    """Ill-typed values stay, missing fields are `None`, and of these only those that were given as null are dumped."""
    odd = Answer.model_validate({"id": 5, "parts": "none", "usage": {"cached": None}, "x": [1]})
    assert (odd.id, odd.parts, odd.title, odd.extra) == (5, "none", None, {"x": [1]})
    assert odd.usage is not None
    assert odd.usage.to_dict() == {"cached": None}
    assert odd.to_dict() == {"id": 5, "parts": "none", "usage": {"cached": None}, "x": [1]}
    assert odd.model_dump()["title"] is None
    for wrong in ("text", 5, [1], None):
        with pytest.raises(ValueError, match="Answer is made from a dict"):
            Answer.model_validate(wrong)
        with pytest.raises(ValueError, match="Answer is made from a dict"):
            Answer.model_validate_json(json.dumps(wrong))
    with pytest.raises(ValueError, match="Expecting"):
        Answer.model_validate_json("{")


def test_a_class_that_is_called_is_lenient_but_wants_something() -> None:
    """A saved answer that lacked a field is built again; a call without any required field is an error."""
    odd = Answer(id="a", parts=[])
    assert odd.title is None
    assert odd.to_dict() == {"id": "a", "parts": []}
    with pytest.raises(TypeError, match=r"Usage\(\) lacks its required arguments: 'total'"):
        Usage(cached=None)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'id', 'parts', 'title'"):
        Answer(speed=1)  # type: ignore[call-arg]
    made = Answer(id="a", parts=[Part(text="x")], title=None, usage=None)
    assert made.parts[0].text == "x"
    assert made.to_dict() == {"id": "a", "parts": [{"type": "part", "text": "x"}], "title": None, "usage": None}


def test_fields_of_other_servers_are_extra_only_when_they_came() -> None:
    """They are declared for speed: dumps show them like any unknown field, so never as a null that nobody sent."""
    whole = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    chunk = msgspec.json.decode(json.dumps(whole), type=ChatCompletionChunk)
    assert chunk.extra == {}
    assert "timings" not in chunk.model_dump()
    assert chunk.model_dump()["usage"] is None
    raw = json.dumps({**whole, "timings": None, "usage": None}).encode()
    keep(chunk, raw, None)
    assert chunk.extra == {"timings": None}
    assert chunk.to_dict() == {**whole, "timings": None, "usage": None}
    assert "timings" in chunk.model_dump()


def test_include_and_exclude_reach_into_parts() -> None:
    """As pydantic's: sets of names, places in lists, `__all__`, and dicts that say more."""
    held = Answer(id="a", parts=[Part(text="x", note="n"), Part(text="y")], title=None, labels={"k": 1, "l": 2})
    assert held.model_dump(include={"parts": {0: {"text"}}}) == {"parts": [{"text": "x"}]}
    assert held.model_dump(include={"id", "parts"}, exclude={"parts": {"__all__": {"type", "note"}}}) == {
        "id": "a",
        "parts": [{"text": "x"}, {"text": "y"}],
    }
    assert held.model_dump(include={"labels": True, "parts": ...}, exclude={"parts": {1}, "labels": {"k"}}) == {
        "parts": [{"type": "part", "text": "x", "note": "n"}],
        "labels": {"l": 2},
    }
    assert json.loads(held.model_dump_json(include={"id"}, round_trip=True, warnings="none")) == {"id": "a"}


def test_equality_wants_the_same_class_fields_tag_and_extras() -> None:
    """Bytes kept and what is known of the call do not count; answers are mutable and so not hashable."""

    class Other(BaseModel, kw_only=True):
        text: str
        note: str | None = None

    assert Part(text="x") == Part(text="x")
    assert Part(text="x") != Part(text="y")
    assert Part(text="x") != Other(text="x")
    assert Part(text="x") != "x"
    odd = Part(text="x")
    put_extra(odd, "type", "trap")
    assert odd != Part(text="x")
    assert keep(Part(text="x"), b"{}", None) == Part(text="x")
    with pytest.raises(TypeError):
        hash(Part(text="x"))


def test_an_ill_valued_tag_is_kept() -> None:
    """The tag that came shows as the attribute and in dumps, once."""
    odd = Part(text="x")
    put_extra(odd, "type", "trap")
    assert odd.type == "trap"
    assert odd.to_dict() == {"type": "trap", "text": "x"}
    assert odd.extra == {}


def test_repr_shows_tag_wire_name_and_leaves_out_empty_optionals() -> None:
    """What a person wants to see at the prompt."""
    assert repr(answer()) == (
        "Answer(id='a', parts=[Part(type='part', text='x'), Part(type='part', text='y')], title=None, from_=3)"
    )
    assert ("from_", 3) in answer().__rich_repr__()


def test_meta_belongs_to_the_answer_of_a_call() -> None:
    """Parts have none; copies share it, pickles do without."""
    meta: Meta = object.__new__(Meta)
    held = keep(answer(), RAW, meta)
    assert held.meta is meta
    assert copy.copy(held).meta is meta
    assert copy.deepcopy(held).meta is meta
    with pytest.raises(AttributeError, match="not the answer of a call"):
        held.parts[0].meta  # noqa: B018
    with pytest.raises(AttributeError, match="not the answer of a call"):
        pickle.loads(pickle.dumps(held)).meta  # noqa: B018
    assert held.parts[0]._request_id is None


def test_an_open_model_has_every_field_as_attribute() -> None:
    """Its type is `None` where none came, and dumps do not invent one."""
    model = OpenModel()
    put_extra(model, "size", 3)
    assert (model.extra, model.type, model.to_dict()) == ({"size": 3}, None, {"size": 3})
    put_extra(model, "type", "new")
    assert (model.type, model.to_dict()) == ("new", {"size": 3, "type": "new"})
    assert pickle.loads(pickle.dumps(model)) == model
    assert repr(model) == "OpenModel(size=3, type='new')"


def test_a_union_stand_in_knows_its_members() -> None:
    """`isinstance` works on it, as it does on a union."""
    union = one_of("U", lambda: (Part, list[int], Literal["auto"], Usage | None))
    assert isinstance(Part(text="x"), union)
    assert isinstance([1], union)
    assert isinstance("auto", union)
    assert isinstance(Usage(total=1), union)
    assert not isinstance(1.5, union)
    assert not isinstance({}, union)


def test_plain_values_of_any_json() -> None:
    """What msgspec refuses is parsed by the standard library; what is no JSON is an error."""
    assert parse_json(b'{"a":[Infinity,"\\ud800"]}') == {"a": [math.inf, "\ud800"]}
    assert parse_json(b'{"a":"\xff"}') == {"a": "�"}
    assert parse_json(b'\xef\xbb\xbf{"a":1}') == {"a": 1}
    with pytest.raises(ValueError, match="Expecting"):
        parse_json(b"{")
