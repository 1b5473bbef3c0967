"""The base of answers: unknown fields, dumps, copies and comparison."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any, ClassVar, Literal

import msgspec
import pytest

from openaiasync.dump import parse
from openaiasync.meta import Meta
from openaiasync.model import BaseModel, OpenModel, keep, one_of, put_extra


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
    again = parse(held.to_json(indent=None).encode())
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
    """For tests and fakes: missing fields are `None`, unknown ones extra, wire names understood."""
    made = Answer.model_construct(id=5, **{"from": 7}, other=1)
    assert (made.id, made.title, made.from_, made.extra) == (5, None, 7, {"other": 1})
    assert made.parts is None


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
    assert parse(b'{"a":[Infinity,"\\ud800"]}') == {"a": [math.inf, "\ud800"]}
    assert parse(b'{"a":"\xff"}') == {"a": "�"}
    assert parse(b'\xef\xbb\xbf{"a":1}') == {"a": 1}
    with pytest.raises(ValueError, match="Expecting"):
        parse(b"{")
