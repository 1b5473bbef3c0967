"""The lenient builder: unions, their stand-ins, and values that fit nothing."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest

from openaiasync.core.codec.decode import DecodeError, Decoder, decoder_for
from openaiasync.core.model.base import BaseModel, OpenModel, one_of
from openaiasync.core.model.lenient import builder_for, resolve


class Message(BaseModel, kw_only=True, tag_field="type", tag="message"):
    type: ClassVar[Literal["message"]] = "message"
    role: str
    content: str | list[Any]


class Call(BaseModel, kw_only=True, tag_field="type", tag="call"):
    type: ClassVar[Literal["call"]] = "call"
    name: str
    arguments: str


class Ping(BaseModel, kw_only=True, tag_field="type", tag="ping"):
    type: ClassVar[Literal["ping"]] = "ping"
    name: str


class Reply(BaseModel, kw_only=True):
    items: list[Message | Call | Ping]
    single: Call | None = None
    blob: bytes | list[float] | None = None
    table: dict[str, Call] | None = None
    number: Annotated[float, "seconds"] | None = None
    mixed: str | Call | list[Call] | None = None


class Search(BaseModel, kw_only=True):
    type: Literal["search", "search_preview"]
    size: int | None = None


class Function(BaseModel, kw_only=True, tag_field="type", tag="function"):
    type: ClassVar[Literal["function"]] = "function"
    name: str


class Filter(BaseModel, kw_only=True):
    key: str
    value: int


class Compound(BaseModel, kw_only=True):
    filters: list[Union]  # type: ignore[valid-type]


Union: Any = one_of("Union", lambda: (Search, Function, Filter, Compound, list[Filter], str))


class Holder(BaseModel, kw_only=True):
    tools: list[Union]
    choice: Union | None = None


def reply(body: bytes) -> Any:
    return decoder_for(Reply).decode(body)


def holder(body: bytes) -> Any:
    return decoder_for(Holder).decode(body)


def test_members_of_a_tagged_union_are_told_by_their_tag() -> None:
    """Also if one of them does not conform; an unknown tag gives an open object, never a dict."""
    made = reply(
        b'{"items":[{"type":"message","role":"r","content":"c","odd":1},{"type":"call"},{"type":"new","a":{"b":1}}]}'
    )
    message, call, new = made.items
    assert (type(message), message.odd) == (Message, 1)
    assert (type(call), call.type, call.name) == (Call, "call", None)
    assert (type(new), new.type, new.a.b) == (OpenModel, "new", 1)


def test_a_missing_tag_is_found_by_the_required_fields() -> None:
    """When exactly one member's are there; else the object stays open."""
    items = reply(b'{"items":[{"role":"r","content":"c"},{"name":"n","arguments":"{}"},{"zzz":1},{}]}').items
    assert (type(items[0]), items[0].type) == (Message, "message")
    assert type(items[1]) is Call
    assert type(items[2]) is OpenModel
    assert type(items[3]) is OpenModel
    assert (items[3].type, items[3].to_dict()) == (None, {})


def test_of_two_members_that_fit_the_one_that_knows_all_fields_is_meant() -> None:
    """`Ping` fits too, but only `Call` knows the arguments; and what fits one only is that one."""
    items = reply(b'{"items":[{"name":"n","arguments":"a"},{"name":"n"},{"name":"n","arguments":"a","z":1}]}').items
    assert [type(item) for item in items] == [Call, Ping, OpenModel]


@pytest.mark.parametrize("tag", [b"null", b"7", b"[]", b"{}", b'"other"'])
def test_a_tag_of_any_kind_is_no_danger(tag: bytes) -> None:
    """Unhashable and ill-typed tags are unknown ones."""
    item = reply(b'{"items":[{"type":' + tag + b',"name":"n"}]}').items[0]
    assert type(item) is OpenModel
    assert item.name == "n"


def test_a_sole_type_is_built_whatever_its_tag() -> None:
    """Where only one kind can stand, the tag that came is kept as the attribute."""
    single = reply(b'{"items":[],"single":{"type":"funktion","name":"n"}}').single
    assert (type(single), single.type, single.name, single.arguments) == (Call, "funktion", "n", None)
    assert single.to_dict() == {"type": "funktion", "name": "n"}


def test_values_of_every_kind_of_field() -> None:
    """Maps and lists of Structs are built, integers become floats, base64 bytes; what does not fit stays."""
    made = reply(
        b'{"items":null,"table":{"k":{"name":"n","z":1},"j":3},"number":2,"blob":"AAAA","mixed":[{"name":"n"},"s"]}'
    )
    assert made.table["k"].z == 1
    assert made.table["j"] == 3
    assert (made.number, type(made.number)) == (2.0, float)
    assert made.blob == b"\0\0\0"
    assert type(made.mixed[0]) is Call
    assert made.mixed[1] == "s"
    odd = reply(b'{"items":"none","table":[],"number":"2","blob":"not base64!","mixed":5}')
    assert (odd.items, odd.table, odd.number, odd.blob, odd.mixed) == ("none", [], 2.0, "not base64!", 5)
    assert reply(b'{"items":[],"blob":[1,2.5],"z":0}').blob == [1.0, 2.5]
    assert reply(b'{"items":[],"mixed":{"name":"n"},"z":0}').mixed.name == "n"


def test_types_whose_values_stay_have_no_builder() -> None:
    """So that most fields cost a look-up only."""
    for kind in (str, bool, str | None, int | str, Literal["a"], list[str], dict[str, Any], Any, list[dict[str, bool]]):
        assert builder_for(kind) is None
    assert builder_for(Call) is builder_for(Call)


def test_a_union_without_a_common_tag_is_resolved_strictly() -> None:
    """By constants, tags, and required fields; nested and recursive ones too."""
    made = decoder_for(Holder, strict=True).decode(
        b'{"tools":[{"type":"search_preview","size":1},{"type":"function","name":"n"},{"key":"k","value":1},"auto",'
        b'{"filters":[{"key":"k","value":2},{"filters":[]}]},[{"key":"k","value":3}]],"choice":null}'
    )
    search, function, single, text, compound, several = made.tools
    assert [type(item) for item in made.tools] == [Search, Function, Filter, str, Compound, list]
    assert search == Search(type="search_preview", size=1)
    assert function.type == "function"
    assert (single.value, text, several) == (1, "auto", [Filter(key="k", value=3)])
    assert [type(item) for item in compound.filters] == [Filter, Compound]
    assert made.choice is None


def test_a_union_without_a_common_tag_is_resolved_leniently() -> None:
    """The member named by the constants is built from the received fields; other objects are open, values stay."""
    search, function, single, new, number, nothing = holder(
        b'{"tools":[{"type":"search","size":"big","z":1},{"type":"function"},{"key":"k","value":1,"z":2},'
        b'{"type":"telepathy","a":{"b":1}},7,{"what":1}]}'
    ).tools
    assert (type(search), search.size, search.extra) == (Search, "big", {"z": 1})
    assert (type(function), function.name) == (Function, None)
    assert (type(single), single.extra) == (Filter, {"z": 2})
    assert (type(new), new.a.b) == (OpenModel, 1)
    assert number == 7
    assert type(nothing) is OpenModel


def test_a_field_without_a_name_misleads_nobody() -> None:
    """An empty name is a name like any other."""
    (item,) = holder(b'{"tools":[{"":"search","key":"k","value":1}]}').tools
    assert (type(item), item.extra) == (Filter, {"": "search"})


def test_both_ways_resolve_alike() -> None:
    """What keeps to the description is the same value on the lenient way."""
    body = b'{"tools":[{"type":"search"},{"type":"function","name":"n"},{"key":"k","value":1},"x",[]]}'
    decoder: Decoder[Holder] = decoder_for(Holder)
    assert decoder.decode(body) == decoder.lenient(body)


def test_a_strict_decoder_names_the_place_inside_a_union() -> None:
    """The path goes through the stand-in; what fits no member at all is named too."""
    strict = decoder_for(Holder, strict=True)
    with pytest.raises(DecodeError) as caught:
        strict.decode(b'{"tools":["a",{"type":"search","size":"big"}]}')
    assert caught.value.path == "$.tools[1].size"
    with pytest.raises(DecodeError) as caught:
        strict.decode(b'{"tools":[{"type":"telepathy"}]}')
    assert caught.value.path == "$.tools[0]"


def test_a_foreign_type_in_an_answer_is_a_mistake_of_ours() -> None:
    """Not something that a server can cause."""

    class Foreign:
        pass

    with pytest.raises(NotImplementedError):
        resolve(Foreign, {})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b"[7]", type=list[Union], dec_hook=resolve)


class RoleA(BaseModel, kw_only=True):
    type: Literal["message"]
    role: Literal["system"]
    status: Literal["done", "going"]


class RoleB(BaseModel, kw_only=True):
    type: Literal["message"]
    role: Literal["user"]
    status: Literal["done"]


class Output(BaseModel, kw_only=True):
    type: Literal["output"]
    status: Literal["done"]


ITEM: Any = one_of("ITEM", lambda: (RoleA, RoleB, Output))


class Items(BaseModel, kw_only=True):
    items: list[ITEM]


def test_two_constants_together_tell_members_apart() -> None:
    """`type` is shared by two, `role` known to two, and a new `status` misleads nobody."""
    a, b, output, new = (
        decoder_for(Items)
        .decode(
            b'{"items":[{"type":"message","role":"system","status":"done"},{"type":"message","role":"user","status":"new"},'
            b'{"type":"output","status":"new"},{"type":"message","role":"tool","status":"done"}]}'
        )
        .items
    )
    assert [type(item) for item in (a, b, output, new)] == [RoleA, RoleB, Output, OpenModel]
    assert b.status == "new"
