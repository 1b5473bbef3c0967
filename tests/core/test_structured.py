"""Types as shapes: what is asked of a model, and its text as a value."""

from __future__ import annotations

import datetime
import pickle
import uuid
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openaiasync.core.schema.jsonschema import validation_errors
from openaiasync.core.schema.structured import (
    Shape,
    ShapeError,
    repair_message,
    shape_of,
)

T = TypeVar("T")


class Step(msgspec.Struct):
    text: str
    minutes: int = 5


class Recipe(msgspec.Struct, rename="camel"):
    full_title: str
    steps: list[Step]
    note: str | None = None


class Circle(msgspec.Struct, tag="circle"):
    radius: float


class Square(msgspec.Struct, tag="square"):
    side: float
    label: str = "none"


class Box(msgspec.Struct, Generic[T]):
    content: T


@dataclass
class City:
    name: str
    people: int


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: int = 0


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2)
    age: int = 30


class Team(msgspec.Struct):
    lead: Person
    size: int


CASES: list[tuple[Any, str, Any]] = [
    (Step, '{"text":"stir","minutes":2}', Step("stir", 2)),
    (Recipe, '{"fullTitle":"t","steps":[{"text":"a","minutes":1}],"note":null}', Recipe("t", [Step("a", 1)])),
    (City, '{"name":"Ulm","people":1}', City("Ulm", 1)),
    (Movie, '{"title":"M","year":1931}', {"title": "M", "year": 1931}),
    (Point, '{"value":[1,2]}', Point(1, 2)),
    (Box[int], '{"content":3}', Box(3)),
    (Box[list[City]], '{"content":[{"name":"Ulm","people":1}]}', Box([City("Ulm", 1)])),
    (Circle | Square, '{"value":{"type":"square","side":2,"label":"x"}}', Square(2.0, "x")),
    (list[Step], '{"value":[{"text":"a","minutes":1}]}', [Step("a", 1)]),
    (Literal["yes", "no"], '{"value":"yes"}', "yes"),
    (Colour, '{"value":"red"}', Colour.RED),
    (int, '{"value":42}', 42),
    (bool, '{"value":true}', True),
    (str | None, '{"value":null}', None),
    (int | str, '{"value":"x"}', "x"),
    (str | int, '{"value":7}', 7),
    (datetime.date, '{"value":"2026-11-22"}', datetime.date(2026, 11, 22)),
    (uuid.UUID, '{"value":"00000000-0000-0000-0000-000000000001"}', uuid.UUID(int=1)),
    (Decimal, '{"value":"1.5"}', Decimal("1.5")),
    (dict[str, int], '{"a":1}', {"a": 1}),
    (tuple[int, str], '{"value":[1,"a"]}', (1, "a")),
    (Annotated[int, msgspec.Meta(ge=0)], '{"value":0}', 0),
    (Person, '{"name":"Judy","age":8}', Person(name="Judy", age=8)),
    (list[Person], '{"value":[{"name":"Judy","age":8}]}', [Person(name="Judy", age=8)]),
    (Person | None, '{"value":{"name":"Emmy","age":8}}', Person(name="Emmy", age=8)),
    (Team, '{"lead":{"name":"Emmy","age":8},"size":2}', Team(Person(name="Emmy", age=8), 2)),
]


@pytest.mark.parametrize(("kind", "text", "value"), CASES, ids=[str(kind) for kind, _, _ in CASES])
def test_an_answer_becomes_a_value_of_the_type(kind: Any, text: str, value: Any) -> None:
    """Each kind of type: a schema with an object at its root, and a value out of an answer that fits it."""
    shape = shape_of(kind)
    assert shape.schema["type"] == "object"
    assert "anyOf" not in shape.schema
    decoded = shape.decode(text)
    assert decoded == value
    assert type(decoded) is type(value)


def test_types_that_are_no_object_are_wrapped() -> None:
    """A list, union or scalar is asked for under "value"; a type that is an object itself is not."""
    assert shape_of(list[int]).wrapped
    assert shape_of(list[int]).schema["required"] == ["value"]
    assert shape_of(Circle | Square).wrapped
    assert not shape_of(Step).wrapped
    assert not shape_of(dict[str, int]).wrapped


def test_the_request_parameter_is_the_apis() -> None:
    """`response_format` and the Responses API's `text.format` name the schema and say whether it is strict."""
    shape = shape_of(Step)
    assert shape.response_format() == {
        "type": "json_schema",
        "json_schema": {"name": "Step", "schema": shape.schema, "strict": True},
    }
    assert shape.text_format() == {"type": "json_schema", "name": "Step", "schema": shape.schema, "strict": True}
    assert shape_of(dict[str, int]).response_format()["json_schema"]["strict"] is False


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Box[int], "Box_int"),
        (list[Step], "list_Step"),
        (Circle | Square, "Circle_or_Square"),
        (Literal["yes", "no"], "Literal_yes_no"),
        (Literal["ä" * 99], "Literal"),
        (Annotated[list[Step], msgspec.Meta(description="all of them")], "list_Step"),
        (Box[Box[Box[dict[str, list[tuple[int, ...]]]]]], None),
    ],
)
def test_names_are_such_that_the_api_takes(kind: Any, name: str | None) -> None:
    """Letters, digits, _ and -, at most 64."""
    made = shape_of(kind).name
    assert name is None or made == name
    assert 0 < len(made) <= 64
    assert all(one.isascii() and (one.isalnum() or one in "_-") for one in made)
    assert shape_of(kind, name="my shape!").name == "my_shape"


def test_instructions_hold_the_schema_and_the_word_json() -> None:
    """JSON mode demands the word in the prompt."""
    words = shape_of(Recipe).instructions()
    assert "JSON" in words
    assert '"fullTitle"' in words


def test_a_shape_is_made_once() -> None:
    """The same type gives the same shape; types that are equal but not the same do not share one."""
    assert shape_of(Step) is shape_of(Step)
    assert shape_of(shape_of(Step)) is shape_of(Step)
    assert shape_of(int | str).schema != shape_of(str | int).schema or shape_of(int | str) is not shape_of(str | int)
    assert isinstance(shape_of(Annotated[int, msgspec.Meta(extra={"un": ["hashable"]})]), Shape)


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"text": "stir", "minutes": 2}\n```',
        'Here you are:\n```\n{"text": "stir", "minutes": 2}\n```\nEnjoy!',
        'Sure {not this}: {"text": "stir", "minutes": 2} and more',
        'The schema is ```json\n{"type": "object"}\n```, so: ```json\n{"text": "stir", "minutes": 2}\n```',
        'Not {"a": 1}, not [2], but {"text": "stir", "minutes": 2}.',
        '\ufeff {"text": "stir", "minutes": 2}\n',
        '```json\n{"text": "stir", "minutes": 2}',
    ],
)
def test_json_is_found_in_what_surrounds_it(text: str) -> None:
    """Fences and chatter of models that are not held to a schema are passed over."""
    assert shape_of(Step).decode(text) == Step("stir", 2)


def test_null_stands_for_what_was_left_out() -> None:
    """Strict mode makes the model say null where the type has a default; the default holds then, at any depth."""
    assert shape_of(Step).decode('{"text":"a","minutes":null}') == Step("a", 5)
    assert shape_of(Movie).decode('{"title":"M","year":null}') == {"title": "M"}
    deep = '{"fullTitle":"t","steps":[{"text":"a","minutes":null}],"note":null}'
    assert shape_of(Recipe).decode(deep) == Recipe("t", [Step("a", 5)])
    both = shape_of(list[Circle | Square])
    assert both.decode('{"value":[{"type":"square","side":1,"label":null}]}') == [Square(1.0, "none")]
    assert shape_of(Person).decode('{"name":"Judy","age":null}') == Person(name="Judy", age=30)


def test_a_forgotten_wrapping_is_forgiven() -> None:
    """A model that was only told the schema in words may answer the bare value."""
    assert shape_of(list[int]).decode("[1,2]") == [1, 2]
    assert shape_of(int).decode("42") == 42
    assert shape_of(list[Person]).decode('[{"name":"Judy"}]') == [Person(name="Judy")]


@pytest.mark.parametrize(
    ("kind", "text", "path", "words"),
    [
        (Step, '{"text":"a","minutes":"2 min"}', "$.minutes", ["int", "str", '"2 min"']),
        (Step, '{"minutes":2}', "$", ["missing", "text"]),
        (Step, "[]", "$", ["object", "array"]),
        (Recipe, '{"fullTitle":"t","steps":[{"text":"a"},{"text":7}]}', "$.steps[1].text", ["str", "int", "7"]),
        (list[int], '{"value":[1,"x"]}', "$.value[1]", ["int", '"x"']),
        (Literal["yes", "no"], '{"value":"maybe"}', "$.value", ["maybe"]),
        (Circle | Square, '{"value":{"type":"oval"}}', "$.value.type", ["oval"]),
        (Person, '{"name":"J","age":"old"}', "$.name", ["2 characters", '"J"', "$.age", '"old"']),
        (list[Person], '{"value":[{"age":3}]}', "$.value[0].name", ["required"]),
        (Team, '{"lead":{"name":"J"},"size":1}', "$.lead", ["2 characters"]),
        (dict[str, int], '{"a":"b"}', "$[...]", ["int"]),
    ],
)
def test_an_error_says_where_and_what_was_expected_and_what_came(
    kind: Any, text: str, path: str, words: list[str]
) -> None:
    """The message is enough for the model to mend its answer, and names the type for people."""
    with pytest.raises(ShapeError) as caught:
        shape_of(kind).decode(text)
    error = caught.value
    assert error.path == path
    for word in [*words, path]:
        assert word in error.message
    assert error.text == text
    assert shape_of(kind).name in str(error)
    shown = repair_message(error)
    assert shown["role"] == "user"
    assert error.message in shown["content"]


def test_the_model_is_told_several_mistakes_at_once() -> None:
    """There is often one round of repair only, so all errors are listed; an omitted optional property is none."""
    with pytest.raises(ShapeError) as caught:
        shape_of(Recipe).decode('{"fullTitle":1,"steps":[{"text":2,"minutes":null},{"minutes":"x"}]}')
    assert caught.value.path == "$.fullTitle"
    lines = caught.value.message.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "At $.fullTitle",
        "At $.steps[0].text",
        "At $.steps[1]",
        "At $.steps[1].minutes",
    ]
    with pytest.raises(ShapeError) as caught:
        shape_of(list[int]).decode(f'{{"value":{["x"] * 99}}}'.replace("'", '"'))
    assert len(caught.value.message.splitlines()) == 8


@pytest.mark.parametrize("text", ["", "  \n", "I cannot do that.", '{"text": "a', '{"text": nope}', "[" * 100_000])
def test_a_text_that_is_no_json_is_a_shape_error(text: str) -> None:
    """Empty, prose, torn, malformed and absurdly deep answers alike."""
    with pytest.raises(ShapeError) as caught:
        shape_of(Step).decode(text)
    assert caught.value.path == "$"
    assert len(caught.value.message) < 400


def test_lone_surrogates_are_a_shape_error() -> None:
    """A text that is not valid Unicode fails like any other invalid answer."""
    with pytest.raises(ShapeError):
        shape_of(Step).decode('{"text":"\ud800"}')


def test_shape_errors_can_be_pickled() -> None:
    """They may cross processes, as all errors of the library."""
    error = pickle.loads(pickle.dumps(ShapeError("At $.a: wrong.", path="$.a", text="{}", name="Step")))
    assert (error.message, error.path, error.text, error.name) == ("At $.a: wrong.", "$.a", "{}", "Step")


def test_plain_values_are_validated_too() -> None:
    """`validate` takes what was parsed already, such as the arguments of a tool."""
    assert shape_of(Step).validate({"text": "a", "minutes": None}) == Step("a")
    with pytest.raises(ShapeError):
        shape_of(Step).validate({"text": 1})


def test_a_dict_is_a_schema() -> None:
    """A schema from a file: strict, and its values are plain."""
    shape = shape_of(
        {"title": "Pet", "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    )
    assert shape.name == "Pet"
    assert shape.schema["additionalProperties"] is False
    assert shape.decode('{"name":"Rex"}') == {"name": "Rex"}
    several = shape_of({"type": "array", "items": {"type": "integer"}})
    assert several.decode('{"value":[1]}') == [1]
    assert several.decode("[1]") == [1]
    for wrong, path in (('{"name":7}', "$.name"), ("{}", "$"), ("[]", "$")):
        with pytest.raises(ShapeError) as caught:
            shape.decode(wrong)
        assert caught.value.path == path
        assert "expected" in caught.value.message


def test_depth_is_a_shape_error() -> None:
    """An answer nested beyond what Python can follow fails like any other."""
    node = {"type": "object", "properties": {"n": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}}
    shape = shape_of({"$ref": "#/$defs/Node", "$defs": {"Node": {**node, "required": ["n"]}}})
    deep = '{"n":' * 400 + "null" + "}" * 400
    with pytest.raises(ShapeError, match="deep"):
        shape.decode(deep)


class HoldsStep(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    step: Step


@pytest.mark.parametrize("kind", [None, Any, complex, object(), "Step", Person | Step, HoldsStep, list[HoldsStep]])
def test_what_is_no_type_is_refused(kind: Any) -> None:
    """A `TypeError` before anything is sent."""
    with pytest.raises(TypeError):
        shape_of(kind)


def test_what_has_come_so_far_is_plain() -> None:
    """A torn answer as dicts and lists, out of its wrapping and its fence; `growing` reads each piece once."""
    assert shape_of(Recipe).partial('```json\n{"fullTitle":"Sou') == {"fullTitle": "Sou"}
    assert shape_of(list[int]).partial('{"value":[1,2,3') == [1, 2]
    assert shape_of(list[int]).partial("[1,2,3") == [1, 2]
    assert shape_of(list[int]).partial('{"val') is None
    assert shape_of(Recipe).partial("") is None
    growing = shape_of(list[Step]).growing()
    seen = []
    for piece in ('{"value":[{"te', 'xt":"stir', ' well","minutes":', "12}", "]}"):
        growing.feed(piece)
        seen.append(str(growing.value))
    assert seen == [
        "[{}]",
        "[{'text': 'stir'}]",
        "[{'text': 'stir well'}]",
        "[{'text': 'stir well', 'minutes': 12}]",
        "[{'text': 'stir well', 'minutes': 12}]",
    ]


class Node(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(max_length=3)]
    born: datetime.date
    colour: Colour
    points: list[Point]
    pair: tuple[int, bool]
    kinds: frozenset[Literal["a", "b"]]
    shape: Circle | Square | None
    extra: int | str | None = None
    next: Node | None = None


NODES: st.SearchStrategy[Node] = st.deferred(
    lambda: st.builds(
        Node,
        name=st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        born=st.dates(),
        colour=st.sampled_from(Colour),
        points=st.lists(st.builds(Point, st.integers(), st.integers()), max_size=3),
        pair=st.tuples(st.integers(), st.booleans()),
        kinds=st.frozensets(st.sampled_from("ab")),
        shape=st.none()
        | st.builds(Circle, st.floats(allow_nan=False, allow_infinity=False))
        | st.builds(Square, st.floats(allow_nan=False, allow_infinity=False), st.text("xyz")),
        extra=st.none() | st.integers(-(2**62), 2**62) | st.text("xyz"),
        next=st.none() | NODES,
    )
)


@given(NODES)
def test_every_value_fits_its_schema_and_comes_back(node: Node) -> None:
    """What is asked for and what is taken are the same: any value, written out, fits the strict schema and is read."""
    shape = shape_of(Node)
    text = msgspec.json.encode(node)
    assert shape.strict
    assert list(validation_errors(msgspec.json.decode(text), shape.schema)) == []
    assert shape.decode(text.decode()) == node
    several = shape_of(list[Node])
    assert several.decode(f'```json\n{{"value":[{text.decode()}]}}\n```') == [node]


@settings(max_examples=30)
@given(NODES, st.data())
def test_what_is_broken_is_found(node: Node, data: st.DataObject) -> None:
    """A value with one wrong place is refused, and the place is named."""
    value = msgspec.to_builtins(node)
    place = data.draw(st.sampled_from(["name", "born", "colour", "points", "pair", "kinds", "extra", "next"]))
    value[place] = [{"wrong": 1.5}]
    with pytest.raises(ShapeError) as caught:
        shape_of(Node).validate(value)
    assert caught.value.path.startswith(f"$.{place}")


JSONISH = st.lists(
    st.sampled_from(
        ['{"', '"text"', ":", '"a"', ",", "}", "[", "]", "```", "json\n", "1", '"minutes"', "null", "\\", "x"]
    )
)


@pytest.mark.parametrize("kind", [Step, list[Step], Person, list[Person], Team, int])
@given(pieces=JSONISH | st.lists(st.text()))
@settings(max_examples=40)
def test_any_text_is_a_value_or_a_shape_error(kind: Any, pieces: list[str]) -> None:
    """A model may write anything."""
    shape, text = shape_of(kind), "".join(pieces)
    try:
        value = shape.decode(text)
    except ShapeError as error:
        problem = error
    else:
        again = shape.kind.__name__ if isinstance(kind, type) else "list"
        assert type(value).__name__ == again
        return
    assert problem.message
    assert problem.path.startswith("$")
