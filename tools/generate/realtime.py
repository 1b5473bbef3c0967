"""Write the WebSocket connections of `spec/realtime.toml`: their resources, and methods that send client events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from .ir import GeneratorError
from .source import WIDTH, Module
from .tables import read_toml

_NAME = re.compile(r"[A-Za-z_]\w*")
_KNOWN = {"Omit": ".core.model.omitted", "Mapping": "collections.abc", "Any": "typing"}
_OWN_KEYS = ("doc", "manager", "events")

Table = Mapping[str, Any]


def connections(tables: Path) -> dict[str, str]:
    """Return the text of each module by its path below the package, one module per table."""
    path = tables / "realtime.toml"
    found = read_toml(path) if path.is_file() else {}
    return {f"realtime/{name}.py": _Connections(name, cast("Table", table)).text() for name, table in found.items()}


class _Connections:
    """Write a module: the classes of its resources, its connections and their managers."""

    def __init__(self, name: str, table: Table) -> None:
        self.module = Module("realtime", name)
        self.types: Mapping[str, str] = table["types"]
        self.event_id = str(table["event_id"])
        self.resources: Mapping[str, Table] = table["resources"]
        self.connections: Mapping[str, Table] = table["connections"]
        self.doc = str(table["doc"])

    def text(self) -> str:
        module = self.module
        module.use("functools", "cached_property")
        module.use(".core.model.omitted", "omit")
        for name in ("EventMethods", "Manager", "WebSocketConnection"):
            module.use(".realtime.websocket", name)
        for name, table in self.resources.items():
            self._define(name, "EventMethods", "self._connection", table)
        for name, table in self.connections.items():
            events = self._type(str(table["events"]), run_time=True)
            self._define(name, f"WebSocketConnection[{events}]", "self", table, f"_kind = {events}")
            manager = f"{name}Manager"
            self._class(manager, f"Manager[{name}]", str(table["manager"]), [f"_makes = {name}"])
            module.own |= {name, manager}
        if module.checked:
            module.use(".lazy", "resolve_annotations")
            module.late += ["", "", "resolve_annotations(__name__)"]
        return module.text(self.doc)

    def _define(self, name: str, base: str, connection: str, table: Table, first: str = "") -> None:
        body: list[str] = [first] if first else []
        for member, told in table.items():
            if member not in _OWN_KEYS:
                lines = self._property if "resource" in told else self._method
                body += ["", *lines(member, told, connection)] if body else [*lines(member, told, connection)]
        self._class(name, base, str(table["doc"]), body)

    def _class(self, name: str, base: str, doc: str, body: list[str]) -> None:
        lines = [f"class {name}({base}):", f'    """{doc}"""', "", *(f"    {line}" if line else "" for line in body)]
        self.module.define(name, lines, is_class=True)

    def _property(self, name: str, told: Table, connection: str) -> Iterator[str]:
        resource = str(told["resource"])
        if resource not in self.resources:
            raise GeneratorError(f"realtime.toml: {name} does not name a resource of its module: {resource}")
        yield "@cached_property"
        yield f"def {name}(self) -> {resource}:"
        yield f'    """{told["doc"]}"""'
        yield f"    return {resource}({connection})"

    def _method(self, name: str, told: Table, connection: str) -> Iterator[str]:
        del connection
        fields: Mapping[str, str] = told["fields"]
        event_id = "str" if told.get("event_id") == "required" else f"{self.event_id} = omit"
        given = [f"{field}: {self._type(kind)}" for field, kind in [*fields.items(), ("event_id", event_id)]]
        yield from _wrapped(f"async def {name}(self, *, ", given, ") -> None:")
        yield f'    """{told["doc"]}"""'
        sent = [f'"{told["event"]}"', *(f"{field}={field}" for field in [*fields, "event_id"])]
        yield from (f"    {line}" for line in _wrapped("await self._send(", sent, ")"))

    def _type(self, text: str, *, run_time: bool = False) -> str:
        """Return the text with imports for the names it uses."""
        for name in dict.fromkeys(_NAME.findall(text)):
            if name in _KNOWN:
                self.module.use(_KNOWN[name], name)
            elif name in self.types:
                module, _, original = self.types[name].partition(":")
                item = original if original == name else f"{original} as {name}"
                if run_time:
                    self.module.use(f".{module}", item)
                else:
                    self.module.use("typing", "TYPE_CHECKING")
                    self.module.checked.setdefault(f".{module}", set()).add(item)
        return text


def _wrapped(head: str, items: list[str], tail: str) -> Iterator[str]:
    """Return a call or a signature on one line if it fits within a class, else with one item per line."""
    line = f"{head}{', '.join(items)}{tail}"
    if len(line) + 8 <= WIDTH:
        yield line
        return
    opening, _, star = head.partition("(")
    yield f"{opening}("
    for item in [part for part in star.split(", ") if part] + items:
        yield f"    {item},"
    yield tail
