"""The tools of a turn: no two of one name, and each with something to run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from .signatures import Function
from .tools import Tool

__all__ = ["Toolbox", "Tools"]


class Toolbox:
    """Functions and `Tool`s that a model may call, by name; beside them tools that the server itself runs, as dicts.

    Raises `TypeError` for what is no tool, for a function no schema can be made of, and for the dict of a function
    tool, behind which there is nothing to run; `ValueError` for two tools of one name.
    """

    __slots__ = ("_served", "_tools")

    def __init__(self, tools: Tools = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._served: list[dict[str, Any]] = []
        if isinstance(tools, Toolbox):
            self._tools, self._served = dict(tools._tools), list(tools._served)
            return
        given: Any = tools
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
            raise TypeError(f"tools is a list of functions, not {cast('Any', type)(given).__name__}")
        for one in cast("Any", given):
            self.add(one)

    def add(self, given: Function | Tool | Mapping[str, Any]) -> Tool | None:
        """Add a tool; the `Tool` made of a function, `None` of a dict. Raises what making a toolbox raises."""
        if isinstance(given, Mapping):
            self._serve(dict(cast("Any", given)))
            return None
        made = Tool.of(given)
        if made.name in self._tools:
            raise ValueError(f"Two tools are named {made.name!r}; give one of them another name: tool(f, name='...')")
        self._tools[made.name] = made
        return made

    def _serve(self, given: dict[str, Any]) -> None:
        kind = given.get("type")
        if not isinstance(kind, str) or kind in ("function", "custom"):
            raise TypeError(
                f"The dict of a {kind or 'function'} tool says nothing of what to run when the model calls it: pass "
                "the function itself, or tool(function, name=..., parameters=schema)"
            )
        self._served.append(given)

    def get(self, name: str) -> Tool | None:
        """The tool of a name."""
        return self._tools.get(name)

    @property
    def names(self) -> list[str]:
        """The names of the tools that run here, in order."""
        return list(self._tools)

    def params(self) -> list[dict[str, Any]]:
        """The value of the request's ``tools``."""
        return [*(one.param() for one in self._tools.values()), *self._served]

    def joined(self, more: Tools) -> Toolbox:
        """A new toolbox with these tools and more."""
        made = Toolbox(self)
        other = Toolbox(more)
        for one in other:
            made.add(one)
        made._served += other._served
        return made

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools) + len(self._served)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __repr__(self) -> str:
        return f"Toolbox({', '.join([*self._tools, *(str(one.get('type')) for one in self._served)])})"


Tools: TypeAlias = Toolbox | Sequence[Function | Tool | Mapping[str, Any]]
"""What ``tools=`` takes: functions, `Tool`s, and dicts of tools that the server runs."""
