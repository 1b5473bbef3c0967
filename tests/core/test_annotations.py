"""What `Annotated` says of a type is held, wherever it stands, by msgspec or by pydantic; or it is refused."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import annotated_types
import msgspec
import pydantic
import pytest
import typing_extensions
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WrapValidator

from conftest import run
from openaiasync import ToolError, tool
from openaiasync.core.schema.from_type import has_validators
from openaiasync.core.schema.structured import ShapeError, shape_of

T = TypeVar("T")


def even(value: int) -> int:
    if value % 2:
        raise ValueError("it is odd")
    return value


def doubled(value: Any) -> Any:
    return value * 2


Even = Annotated[int, AfterValidator(even)]


@dataclasses.dataclass
class Data:
    x: Even


@dataclasses.dataclass
class Limited:
    x: Annotated[int, annotated_types.Gt(0)]


class Dict(typing_extensions.TypedDict):
    x: Even


class Tuple(NamedTuple):
    x: Even


class InStruct(msgspec.Struct):
    x: Even


class LimitedStruct(msgspec.Struct):
    x: Annotated[int, Field(gt=0)]


class Box(msgspec.Struct, Generic[T]):
    x: T


# A type, a text that fits it, one that does not.
HELD: list[tuple[Any, str, str]] = [
    (Even, "2", "3"),
    (list[Even], "[2]", "[2,3]"),
    (dict[str, Even], '{"a":2}', '{"a":3}'),
    (tuple[int, Even], "[1,2]", "[1,3]"),
    (Even | None, "null", "3"),
    (list[dict[str, Even | None]], '[{"a":null}]', '[{"a":3}]'),
    (Data, '{"x":2}', '{"x":3}'),
    (list[Data], '[{"x":2}]', '[{"x":3}]'),
    (Dict, '{"x":2}', '{"x":3}'),
    (Limited, '{"x":2}', '{"x":-3}'),
    (Annotated[int, annotated_types.Gt(0)], "1", "0"),
    (list[Annotated[int, annotated_types.Interval(ge=1, le=2)]], "[2]", "[3]"),
    (list[Annotated[str, annotated_types.Len(1, 2)]], '["a"]', '["abc"]'),
    (dict[str, Annotated[int, Field(gt=0)]], '{"a":1}', '{"a":0}'),
    (Annotated[int, annotated_types.Predicate(lambda value: value > 5)], "6", "5"),
    (list[Annotated[str, StringConstraints(pattern="^a")]], '["a"]', '["b"]'),
    (Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)], '"a"', '" "'),
    (Annotated[int, Field(strict=True)], "1", '"1"'),
    (Annotated[int, BeforeValidator(doubled), annotated_types.Lt(5)], "2", "3"),
    (Annotated[int, WrapValidator(lambda value, handler: even(handler(value)))], "2", "3"),
    (pydantic.PositiveInt, "1", "0"),
    (list[pydantic.conint(multiple_of=3)], "[3]", "[4]"),  # type: ignore[misc]  # a function that answers a type
]


@pytest.mark.parametrize(("kind", "fits", "validation_errors"), HELD)
def test_what_is_said_of_an_answer_is_held(kind: Any, fits: str, validation_errors: str) -> None:
    """In `into=` and wherever else types are given, deep inside other types, too."""
    shape = shape_of(kind)
    shape.decode(fits)
    with pytest.raises(ShapeError):
        shape.decode(validation_errors)


@pytest.mark.parametrize(("kind", "fits", "validation_errors"), HELD)
@pytest.mark.parametrize("default", [False, True])
def test_what_is_said_of_a_parameter_is_held(kind: Any, fits: str, validation_errors: str, default: bool) -> None:
    """The model is told what was wrong, and the function is not called."""
    called: list[Any] = []

    def f(a: Any, b: int = 0) -> str:
        called.append(a)
        return "fine"

    def g(a: Any = None, b: int = 0) -> str:
        return f(a, b)

    function = g if default else f
    function.__annotations__["a"] = kind
    made = tool(function)
    assert run(made.call(f'{{"a":{fits}}}')) == "fine"
    with pytest.raises(ToolError, match="do not fit"):
        run(made.call(f'{{"a":{validation_errors}}}'))
    assert len(called) == 1
    assert "a" in made.param()["function"]["parameters"]["properties"]


def test_validators_change_values() -> None:
    """What they return is what the function and the caller get."""

    def f(a: Annotated[int, AfterValidator(doubled)], b: list[Annotated[str, BeforeValidator(doubled)]]) -> Any:
        return [a, b]

    assert run(tool(f).run('{"a":2,"b":["x"]}')) == [4, ["xx"]]
    assert shape_of(list[Annotated[int, AfterValidator(doubled)]]).decode("[1]") == [2]


def test_a_validators_words_are_told_to_the_model() -> None:
    """With the place."""

    def f(a: list[Even]) -> None: ...

    with pytest.raises(ToolError, match=r"\$\.a.*it is odd"):
        run(tool(f).call('{"a":[2,3]}'))


def test_a_parameter_that_is_left_out_has_its_default() -> None:
    """Also where pydantic reads it."""

    def f(a: Annotated[list[int], AfterValidator(list)] = [1], b: Even = 4) -> Any:  # noqa: B006
        return [a, b]

    assert run(tool(f).run("{}")) == [[1], 4]
    assert run(tool(f).run('{"a":[2],"b":6}')) == [[2], 6]


@pytest.mark.parametrize("kind", [InStruct, LimitedStruct, list[InStruct], Box[Even]])
def test_what_nobody_would_run_is_refused(kind: Any) -> None:
    """A Struct is read by msgspec, which runs its own `Meta` only; a validator must not be forgotten silently."""
    with pytest.raises(TypeError, match=r"pydantic|msgspec\.Meta"):
        shape_of(kind)

    def f(a: Any) -> None: ...

    f.__annotations__["a"] = kind
    with pytest.raises(TypeError, match="The parameter 'a' of the tool f"):
        tool(f)


def test_without_pydantic_validators_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits are msgspec's then."""
    monkeypatch.delitem(sys.modules, "pydantic")
    with pytest.raises(TypeError, match="run by pydantic only"):
        has_validators(Annotated[int, annotated_types.Predicate(even)])
    assert not has_validators(list[Annotated[int, annotated_types.Gt(0)]])
    with pytest.raises(ShapeError):
        shape_of(list[Annotated[int, annotated_types.Gt(41)]]).decode("[41]")


@pytest.mark.parametrize(
    "kind",
    [
        int,
        list[int],
        Annotated[int, "x"],
        Annotated[int, Field(description="x")],
        Annotated[int, msgspec.Meta(gt=0)],
    ],
)
def test_what_needs_no_pydantic_does_without(kind: Any) -> None:
    """Descriptions, and what msgspec holds itself."""
    assert not has_validators(kind)
