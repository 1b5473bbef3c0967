"""The tools of a turn: each has a name of its own and something to run."""

from __future__ import annotations

from typing import Any

import pytest

from openaiasync import Toolbox, tool


def one(a: int) -> int:
    return a


def two() -> None: ...


SEARCH: dict[str, Any] = {"type": "web_search"}


def test_what_is_in_it() -> None:
    """Functions, tools, and dicts of tools that the server runs."""
    box = Toolbox([one, tool(two, name="zwei"), SEARCH])
    assert box.names == ["one", "zwei"]
    assert [param["type"] for param in box.params()] == ["function", "function", "web_search"]
    assert (len(box), "one" in box, "two" in box) == (3, True, False)
    assert box.get("zwei") is not None
    assert box.get("two") is None
    assert repr(box) == "Toolbox(one, zwei, web_search)"
    assert [each.name for each in box] == ["one", "zwei"]


def test_joined_boxes_are_new() -> None:
    """A turn's own tools do not stay in the session's box."""
    box = Toolbox([one])
    more = box.joined([two, SEARCH])
    assert (more.names, len(more), box.names) == (["one", "two"], 3, ["one"])
    with pytest.raises(ValueError, match="Two tools are named 'one'"):
        more.joined([one])
    assert Toolbox(more).params() == more.params()


@pytest.mark.parametrize(
    ("tools", "kind", "reason"),
    [
        ([one, one], ValueError, r"Two tools are named 'one'; .*name='\.\.\.'"),
        ([one, tool(two, name="one")], ValueError, "Two tools"),
        ([{"type": "function", "function": {"name": "f"}}], TypeError, "does not say what to run"),
        ([{"type": "custom", "custom": {"name": "f"}}], TypeError, "does not say what to run"),
        ([{}], TypeError, "does not say what to run"),
        (["one"], TypeError, "A tool must be a function, not str"),
        ("one", TypeError, "tools must be a list of functions, not str"),
        ({"one": one}, TypeError, "tools must be a list of functions, not dict"),
        (one, TypeError, "tools must be a list of functions, not function"),
        (7, TypeError, "tools must be a list of functions, not int"),
    ],
)
def test_what_can_be_no_toolbox(tools: Any, kind: type[Exception], reason: str) -> None:
    """Said when it is made, before anything is sent."""
    with pytest.raises(kind, match=reason):
        Toolbox(tools)
