"""The official client as an oracle: every operation made by both against one server that remembers.

Needs the dependency group `peers`; a step of its own in CI.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any, NamedTuple

import pytest

from conftest import run
from openaiasync.endpoints import ENDPOINTS

from .differences import ANSWERS, REQUESTS, Difference
from .examples import VARIANTS
from .recorder import Both, Recorded, Served, both, params_of, result_of, served_for, stream_for

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

STREAMED = "streamed"
# The official client asks for a Python type to parse into, which is a helper's business.
UNTRIED = {("beta.agents.sessions.create", variant) for variant in ("first", "last")}
# What their least answers lack is an error here, or success: see "An answer that is no answer" among the differences.
HOLLOW = {
    "chat.completions.create": "choices",
    "chat.completions.retrieve": "choices",
    "chat.completions.update": "choices",
    "completions.create": "choices",
    "evals.runs.delete": "deleted",
    "images.create_variation": "data",
    "images.edit": "data",
    "images.generate": "data",
    "moderations.create": "results",
}
USED: set[str] = set()


class Pair(NamedTuple):
    """One call of both."""

    theirs: Recorded
    ours: Recorded
    served: Served


def untangled(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters, a few made possible: header fields hold no umlauts, text formats have tests of their own."""
    if "idempotency_key" in params:
        params["idempotency_key"] = "key-1"
    if ENDPOINTS[method].open:
        params = {name: _by_wire_name(value) for name, value in params.items()}
    if "response_format" in params and method.startswith("audio."):
        params["response_format"] = "json"
    if method == "embeddings.create" and "encoding_format" in params:
        params["encoding_format"] = "float"
    return params


def _by_wire_name(value: Any) -> Any:
    """`async_` of the official types as `async`: without a schema, nobody can tell us."""
    if isinstance(value, dict):
        return {name.removesuffix("_"): _by_wire_name(item) for name, item in value.items()}
    return [_by_wire_name(item) for item in value] if isinstance(value, list) else value


async def _calls(pair: Both) -> dict[tuple[str, str], Pair]:
    found: dict[tuple[str, str], Pair] = {}
    for method in ENDPOINTS:
        for variant in VARIANTS:
            if (method, variant) not in UNTRIED:
                served = _served(method, variant)
                both_sides = await pair.call(method, untangled(method, params_of(method, variant)), served)
                found[method, variant] = Pair(*both_sides, served)
        if result_of(method).events is not None:
            served = _without_errors(stream_for(method))
            params = {**untangled(method, params_of(method, "least")), "stream": True}
            if result_of(method).whole is None:
                del params["stream"]  # it answers nothing but streams
            found[method, STREAMED] = Pair(*await pair.call(method, params, served), served)
    return found


def _served(method: str, variant: str) -> Served:
    served = served_for(method, variant, stray=variant == "last")
    if method == "embeddings.create":
        texts = params_of(method, variant)["input"]
        many = isinstance(texts, list) and not isinstance(texts[0], int)  # and not one text as tokens
        served.body["data"] = [
            {"embedding": [0.5, -1.0], "index": index, "object": "embedding"}
            for index in range(len(texts) if many else 1)
        ]
    elif method in HOLLOW and variant == "least":
        name = HOLLOW[method]
        served.body[name] = served_for(method, "first", stray=False).body[name]
    return _without_errors(served)


def _without_errors(served: Served) -> Served:
    """An error in a stream is raised by us; see the table of differences."""
    if served.content_type != "text/event-stream":
        return served
    return served._replace(body=[one for one in served.body if not _is_error(one)])


def _is_error(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return bool(value.get("error")) or "error" in (value.get("event"), value.get("type"))


async def _all() -> dict[tuple[str, str], Pair]:
    async with both() as pair:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # theirs warn of deprecated methods
            return await _calls(pair)


@pytest.fixture(scope="module")
def pairs() -> dict[tuple[str, str], Pair]:
    return run(_all(), timeout=170)


def levelled(differences: tuple[Difference, ...], method: str, theirs: Any, ours: Any) -> Any:
    """What the official client gave, without the differences that are on purpose."""
    for difference in differences:
        before, theirs = theirs, difference.apply(method, theirs, ours)
        if before != theirs:
            USED.add(difference.what)
    return theirs


def plain(came: Any) -> Any:
    """An answer as plain values."""
    if isinstance(came, Exception):
        raise came
    if isinstance(came, list):
        return [one.to_dict() for one in came]
    if hasattr(came, "to_dict"):
        return came.to_dict()
    return came.content if hasattr(came, "content") else came


@pytest.mark.parametrize("method", list(ENDPOINTS))
def test_requests_are_the_same(method: str, pairs: dict[tuple[str, str], Pair]) -> None:
    """Method, path, query, body or form, authorisation: what the official client sends for the same call."""
    for (name, variant), pair in pairs.items():
        if name == method:
            assert pair.theirs.sent is not None, (variant, pair.theirs.came)
            assert pair.ours.sent is not None, (variant, pair.ours.came)
            assert pair.ours.sent == levelled(REQUESTS, method, pair.theirs.sent, pair.ours.sent), variant


@pytest.mark.parametrize("method", list(ENDPOINTS))
def test_answers_are_the_same(method: str, pairs: dict[tuple[str, str], Pair]) -> None:
    """The same bytes become the same values, with nothing lost or added: full, sparse, with new fields, streamed."""
    for (name, variant), pair in pairs.items():
        if name != method:
            continue
        theirs, ours = plain(pair.theirs.came), plain(pair.ours.came)
        if variant == STREAMED:
            assert len(ours) == len(theirs) > 0
            theirs = levelled(ANSWERS, method, theirs, ours)
        assert ours == theirs, variant
        if hasattr(pair.ours.came, "model_dump"):
            dumped = pair.ours.came.model_dump(exclude_unset=True, by_alias=True)
            assert dumped == pair.theirs.came.model_dump(exclude_unset=True, by_alias=True), variant


def typed(method: str) -> bool:
    return "OpenModel" not in ENDPOINTS[method].type


@pytest.mark.parametrize("method", [name for name in ENDPOINTS if typed(name)])
def test_every_attribute_is_there(method: str, pairs: dict[tuple[str, str], Pair]) -> None:
    """What the official answer has as an attribute, ours has under the same name with the same value."""
    came = pairs[method, "first"]
    if hasattr(came.theirs.came, "model_fields_set"):
        assert list(_missing(came.theirs.came, came.ours.came, method)) == []


def _missing(theirs: Any, ours: Any, where: str) -> Any:
    if isinstance(ours, dict):  # in a field newer than the public description
        return
    if isinstance(theirs, list):
        for number, (here, there) in enumerate(zip(theirs, ours, strict=True)):
            yield from _missing(here, there, f"{where}[{number}]")
        return
    if not hasattr(theirs, "model_fields_set"):
        if type(theirs) in (str, int, float, bool) and theirs != ours:
            yield where, theirs, ours
        return
    for name in type(theirs).model_fields:
        value = getattr(theirs, name)
        if value is None:
            continue
        if not hasattr(ours, name):
            wire = type(theirs).model_fields[name].alias or name
            if wire not in ours.extra:  # newer than the public description: under its name on the wire
                yield f"{where}.{name}"
        else:
            yield from _missing(value, getattr(ours, name), f"{where}.{name}")


@pytest.mark.parametrize("method", [name for name in ENDPOINTS if typed(name)])
def test_types_are_found_where_the_official_ones_are(method: str, pairs: dict[tuple[str, str], Pair]) -> None:
    """An answer's type can be imported by its official module and name, and is the type of our answer."""
    theirs, ours = pairs[method, "first"].theirs.came, pairs[method, "first"].ours.came
    if hasattr(theirs, "model_fields_set") and not result_of(method).page:
        module = type(theirs).__module__.replace("openai.", "openaiasync.", 1)
        assert isinstance(ours, getattr(importlib.import_module(module), type(theirs).__name__))


def test_the_table_of_differences_is_needed(pairs: dict[tuple[str, str], Pair]) -> None:
    """Every difference on purpose shows in some call: one that does not has no place in the table."""
    for (method, variant), pair in pairs.items():
        if pair.theirs.sent is None or pair.ours.sent is None:
            continue  # reported by another test
        levelled(REQUESTS, method, pair.theirs.sent, pair.ours.sent)
        if variant == STREAMED:
            levelled(ANSWERS, method, plain(pair.theirs.came), plain(pair.ours.came))
    assert {row.what for row in (*REQUESTS, *ANSWERS)} == USED
