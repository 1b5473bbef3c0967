"""Tools out of functions: what the model is shown, what the function is called with, what is refused and why."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import datetime
import enum
import functools
import json
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import run
from openaiasync import Tool, ToolError, tool


class Unit(enum.Enum):
    CELSIUS = "c"
    KELVIN = "k"


@dataclasses.dataclass
class Place:
    lat: float
    lon: float = 0.0


class Size(msgspec.Struct):
    width: int
    height: int | None = None


class Person(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(default=30, ge=0)


class Options(TypedDict, total=False):
    loud: bool


class Pair(NamedTuple):
    first: int
    second: str


def weather(town: str, days: int = 3) -> str:
    """Tell the weather.

    Args:
        town: Where.
        days: How many days.
    """
    return f"{town} {days}"


def called(function: Callable[..., Any], arguments: str, **options: Any) -> Any:
    return run(tool(function, **options).run(arguments))


# ---------------------------------------------------------------- what the model is shown


def test_what_the_model_is_shown() -> None:
    """Name, description and a strict schema; what may be left out is nullable, and its default is told."""
    assert tool(weather).param() == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tell the weather.",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {
                    "town": {"type": "string", "description": "Where."},
                    "days": {
                        "anyOf": [{"type": "integer"}, {"type": "null"}],
                        "description": "How many days. (default: 3)",
                    },
                },
                "required": ["town", "days"],
                "additionalProperties": False,
            },
        },
    }


def test_a_function_without_parameters() -> None:
    """Has an empty object for a schema, as strict mode wants it."""

    def now() -> str:
        return "now"

    made = tool(now)
    assert made.parameters == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    for arguments in ("", "{}", "null", " "):
        assert run(made.call(arguments)) == "now"


def test_every_kind_of_annotation_has_a_schema() -> None:
    """What msgspec and pydantic know, nested in each other."""

    def many(
        a: Literal["x", "y"], b: Unit, c: Place, d: Size, e: Person, f: list[Person], g: Options, h: Pair,
        i: datetime.date, j: int | str, k: dict[str, int],
    ) -> None: ...  # fmt: skip

    made = tool(many)
    properties = made.parameters["properties"]
    assert list(properties) == list("abcdefghijk")
    assert properties["a"] == {"enum": ["x", "y"], "type": "string"}
    assert not made.strict  # because of the dict with free keys
    assert "strict" not in made.param()["function"]


def test_strict_by_word() -> None:
    """True insists, False never asks for it."""

    def counts(words: dict[str, int]) -> None: ...

    with pytest.raises(TypeError, match=r"free keys.*\$\.words"):
        tool(counts, strict=True)
    plain = tool(weather, strict=False)
    assert plain.parameters["required"] == ["town"]
    assert "strict" not in plain.param()["function"]
    assert tool(weather, strict=True).param()["function"]["strict"] is True


def test_descriptions_and_limits_in_annotations() -> None:
    """`Annotated` wins over the docstring, with msgspec's Meta or pydantic's Field; limits are held."""

    def f(
        a: Annotated[int, msgspec.Meta(description="of Meta", le=5)],
        b: Annotated[int, pydantic.Field(description="of Field", ge=1, lt=9)] = 2,
        c: Annotated[str, pydantic.Field(min_length=2, pattern="^x")] = "xx",
    ) -> list[Any]:
        """F.

        :param a: of the docstring
        :param c: of the docstring
        """
        return [a, b, c]

    properties = tool(f).parameters["properties"]
    assert properties["a"] == {"type": "integer", "maximum": 5, "description": "of Meta"}
    assert "of Field" in properties["b"]["description"]
    assert properties["c"]["description"].startswith("of the docstring")
    assert called(f, '{"a":5,"b":8,"c":"xyz"}') == [5, 8, "xyz"]
    for wrong in ('{"a":6}', '{"a":1,"b":0}', '{"a":1,"b":9}', '{"a":1,"c":"x"}', '{"a":1,"c":"yy"}'):
        with pytest.raises(ToolError, match="do not fit"):
            called(f, wrong)


def test_names() -> None:
    """The function's own, that of the class of an object, or the one given; only such as the API takes."""

    class Finder:
        """Finds."""

        def __call__(self, what: str) -> str:
            return what

    assert tool(Finder()).name == "Finder"
    assert tool(weather, name="wetter").name == "wetter"
    assert tool(functools.partial(weather, days=1)).name == "weather"
    with pytest.raises(ValueError, match=r"'<lambda>'.*name='\.\.\.'"):
        tool(lambda: 1)
    with pytest.raises(ValueError, match="at most 64"):
        tool(weather, name="x" * 65)


def test_the_decorator() -> None:
    """With and without parentheses; the function can still be called."""

    @tool
    def one(a: int) -> int:
        """One."""
        return a + 1

    @tool(name="zwei", description="Two.")
    def two(a: int) -> int:
        return a + 2

    assert isinstance(one, Tool)
    assert (one(1), two(a=1)) == (2, 3)
    assert (one.description, two.name, two.description) == ("One.", "zwei", "Two.")
    assert Tool.of(one) is one


# ---------------------------------------------------------------- what is called


def test_arguments_become_what_annotations_say() -> None:
    """Not dicts and texts, but the types themselves."""

    def f(unit: Unit, place: Place, size: Size, people: list[Person], day: datetime.date) -> list[Any]:
        return [unit, place, size, people, day]

    arguments = {
        "unit": "k",
        "place": {"lat": 1, "lon": None},
        "size": {"width": 2, "height": None},
        "people": [{"name": "Ada", "age": None}],
        "day": "2026-01-02",
    }
    assert called(f, json.dumps(arguments)) == [
        Unit.KELVIN,
        Place(1.0, 0.0),
        Size(2, None),
        [Person(name="Ada")],
        datetime.date(2026, 1, 2),
    ]


MARK = object()
HERE = Place(1)


def test_defaults_count_where_the_model_says_nothing_or_null() -> None:
    """Null is a value only where the annotation takes it; defaults of any kind are the function's own."""

    def f(a: int = 1, b: str | None = "b", c: list[int] = [7], d: Place = HERE, e: Any = MARK) -> list[Any]:  # noqa: B006
        return [a, b, c, d, e]

    assert called(f, "{}") == [1, "b", [7], Place(1), MARK]
    assert called(f, '{"a":null,"b":null,"c":null,"d":null}') == [1, None, [7], Place(1), MARK]
    assert called(f, '{"c":[],"d":{"lat":2,"lon":3},"e":"given"}') == [1, "b", [], Place(2, 3), "given"]


def test_a_default_of_none_without_saying_so() -> None:
    """``x: int = None`` is common, wrong, and works."""

    def f(x: int = None) -> Any:  # type: ignore[assignment]  # noqa: RUF013
        return x

    assert called(f, "{}") is None
    assert called(f, '{"x":null}') is None
    assert called(f, '{"x":2}') == 2


def test_places_of_parameters() -> None:
    """Positional-only, usual and keyword-only ones, and names that mean something elsewhere."""

    def f(a: int, b: int = 2, /, c: int = 3, *, d: int, self: int = 5, name: int = 6) -> tuple[int, ...]:
        return (a, b, c, d, self, name)

    assert called(f, '{"a":1,"d":4}') == (1, 2, 3, 4, 5, 6)
    assert called(f, '{"a":1,"b":0,"c":0,"d":0,"self":0,"name":0}') == (1, 0, 0, 0, 0, 0)


class Store:
    """Keeps."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def keep(self, what: str) -> None:
        """Keep something."""
        self.kept.append(what)

    async def __call__(self, what: str) -> str:
        """Find something."""
        return f"found {what}"

    @staticmethod
    def plain(what: str) -> str:
        return what

    @classmethod
    def of_class(cls, what: str) -> str:
        return f"{cls.__name__} {what}"


def test_methods_objects_and_partials() -> None:
    """Whatever can be called with what the model gives."""
    store = Store()
    keep = tool(store.keep)
    assert (keep.description, list(keep.parameters["properties"])) == ("Keep something.", ["what"])
    assert run(keep.call('{"what":"x"}')) == "ok"
    assert store.kept == ["x"]
    assert called(store, '{"what":"x"}') == "found x"
    assert tool(store).description == "Find something."
    assert called(Store.plain, '{"what":"x"}') == "x"
    assert called(Store.of_class, '{"what":"x"}') == "Store x"
    assert called(Place, '{"lat":1}', name="place") == Place(1.0)


def test_what_a_partial_binds_is_the_models_no_more() -> None:
    """Neither shown nor settable: keys and connections go in there."""

    def find(what: str, limit: int, *, key: Any) -> list[Any]:
        return [what, limit, key]

    made = tool(functools.partial(functools.partial(find, key="secret"), limit=2))
    assert list(made.parameters["properties"]) == ["what"]
    assert "secret" not in json.dumps(made.param())
    assert run(made.run('{"what":"x"}')) == ["x", 2, "secret"]
    with pytest.raises(ToolError, match="key"):
        run(made.run('{"what":"x","key":"mine"}'))
    assert run(tool(functools.partial(find, "first", key=0)).run('{"limit":1}')) == ["first", 1, 0]


def test_wrapped_functions_keep_their_signature() -> None:
    """A decorator that uses `functools.wraps` is looked through."""

    @functools.wraps(weather)
    def logged(*args: Any, **kwargs: Any) -> str:
        return weather(*args, **kwargs).upper()

    assert tool(logged).parameters == tool(weather).parameters
    assert called(logged, '{"town":"Ulm"}') == "ULM 3"


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="none")


def test_plain_functions_run_in_a_thread_with_the_callers_context() -> None:
    """The event loop goes on meanwhile; context variables are the caller's."""

    def f() -> tuple[str, bool]:
        return VARIABLE.get(), threading.current_thread() is threading.main_thread()

    async def main() -> Any:
        VARIABLE.set("mine")
        return await tool(f).run("")

    assert run(main()) == ("mine", False)


def test_asynchronous_functions_run_in_the_loop() -> None:
    """Also behind a partial, a method, or a plain function that answers an awaitable."""

    async def f(a: int) -> bool:
        await asyncio.sleep(0)
        return threading.current_thread() is threading.main_thread()

    def plainly(a: int) -> Any:
        return f(a)

    assert called(f, '{"a":1}') is True
    assert called(functools.partial(f, a=1), "{}") is True
    assert called(plainly, '{"a":1}') is True


@pytest.mark.parametrize("error", [StopIteration("no"), StopAsyncIteration(), TimeoutError("t"), LookupError("l")])
def test_what_a_function_raises_arrives(error: Exception) -> None:
    """This includes StopIteration in a thread, which a future cannot carry and which would be awaited for ever."""

    def f() -> None:
        raise error

    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        called(f, "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"town":1}', r"At \$\.town: expected `str`, got `int`; it is 1"),
        ("{}", "missing required field `town`"),
        ('{"town":"a","days":"x"}', r"At \$\.days: expected `int`"),
        ('{"town":"a","town_":"b"}', "town_"),
        ('{"town"', "one JSON object: Input data was truncated"),
        ("[]", "one JSON object"),
        ('"town"', "one JSON object"),
        ('{"town":"a"}{"town":"b"}', "one JSON object"),
        ("[" * 100_000, "one JSON object"),
    ],
)
def test_bad_arguments_say_what_is_wrong(arguments: str, reason: str) -> None:
    """The message for the model has the place, the expectation and the received value."""
    with pytest.raises(ToolError, match=reason):
        called(weather, arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"town":"a","days":"3"}', "a 3"),
        ('{"town":"a","days":" 3"}', None),
        ('{"town":"a","days":"three"}', None),
        ('{"days":"3"}', None),
    ],
)
def test_numbers_that_models_write_as_texts(arguments: str, expected: str | None) -> None:
    """They are converted to numbers; other texts are refused as before."""
    if expected is not None:
        assert called(weather, arguments) == expected
        return
    with pytest.raises(ToolError, match=r"do not fit.*(days|town)"):
        called(weather, arguments)


def test_loose_arguments_beside_others() -> None:
    """Nulls still stand for defaults, and unknown names are still refused."""

    def f(a: int, b: bool = True, c: list[float] | None = None, d: str = "d") -> list[Any]:
        return [a, b, c, d]

    assert called(f, '{"a":"1","b":"false","c":["2.5"],"d":null}') == [1, False, [2.5], "d"]
    assert called(f, '{"a":"1","b":null,"c":null}') == [1, True, None, "d"]
    with pytest.raises(ToolError, match='"e"'):
        called(f, '{"a":"1","e":1}')


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_call_that_takes_too_long(kind: str) -> None:
    """Ends after `timeout` seconds; a thread is left to itself."""
    let_go = threading.Event()

    async def waits() -> None:
        await asyncio.sleep(60)

    def waits_plainly() -> None:
        let_go.wait(20)

    made = tool(waits if kind == "async" else waits_plainly, name="waits", timeout=0.05)
    try:
        with pytest.raises(ToolError, match=r"^The tool waits took longer than 0\.05 s\.$"):
            asyncio.run(_freed(made, let_go))
    finally:
        let_go.set()


async def _freed(made: Tool, let_go: threading.Event) -> None:
    try:
        await made.run("")
    finally:
        let_go.set()  # the loop waits for its threads at its end


def test_time_limits() -> None:
    """A tool's own `TimeoutError` is its own; a limit is a number above 0."""

    async def f() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        called(f, "", timeout=20)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
            tool(f, timeout=wrong)


def test_a_schema_of_ones_own() -> None:
    """Arguments then come by name as JSON makes them: for tools that are described elsewhere."""
    schema = {"type": "object", "properties": {"x": {}}}

    def f(**given: Any) -> Any:
        return given

    made = tool(f, name="any", parameters=schema, description="d")
    assert made.param() == {"type": "function", "function": {"name": "any", "parameters": schema, "description": "d"}}
    assert run(made.run('{"x":[1]}')) == {"x": [1]}
    assert run(made.run("")) == {}
    with pytest.raises(ToolError, match="one JSON object"):
        run(made.run("[]"))


def test_a_result_that_cannot_be_told() -> None:
    """Is the tool's failure, and names it."""

    def f() -> object:
        return object()

    with pytest.raises(ToolError, match=r"The tool f returned .* type object has no JSON form"):
        run(tool(f).call(""))


# ---------------------------------------------------------------- what can be no tool


def no_annotation(a, b: int) -> None: ...  # type: ignore[no-untyped-def]


def stars(*values: int) -> None: ...


def keywords(**values: int) -> None: ...


def unknown(a: NotThere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def no_schema(first: int, path: complex) -> None: ...


def two_structs(a: Size | Place) -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (no_annotation, r"parameter 'a' of the tool no_annotation has no annotation; add its type, as in a: str"),
        (stars, r"takes \*values, which no schema can express"),
        (keywords, r"takes \*\*values, which no schema can express"),
        (unknown, r"annotations of the tool unknown cannot be evaluated: name 'NotThere'"),
        (no_schema, r"parameter 'path' of the tool no_schema: No JSON schema"),
        (two_structs, r"parameter 'a' of the tool two_structs: "),
        ("weather", "A tool must be a function, not str"),
        (max, r"parameters of the tool max cannot be read .* wrap it in a function"),
    ],
)
def test_what_can_be_no_tool(function: Any, reason: str) -> None:
    """The error names function and parameter and says what to change."""
    with pytest.raises((TypeError, ValueError), match=reason):
        tool(function)


def test_the_returned_type_need_not_be_there() -> None:
    """Only annotations of parameters are read."""

    def f(a: int) -> NotThere:  # type: ignore[name-defined]  # noqa: F821
        return a

    assert called(f, '{"a":1}') == 1


# ---------------------------------------------------------------- properties


@given(st.text() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["town", "days", "x"]), inner),
    max_leaves=6,
).map(json.dumps))  # fmt: skip
def test_any_arguments_bind_or_are_refused(arguments: str) -> None:
    """Whatever a model writes, the function is called with its types, or not at all."""
    made = tool(weather)
    try:
        placed, named = made._arguments(arguments)
    except ToolError as error:
        failure = str(error)
    else:
        assert placed == []
        assert (type(named["town"]), type(named["days"])) == (str, int)
        return
    assert failure.startswith("The arguments do not fit. ")
