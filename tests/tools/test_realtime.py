"""Connections over WebSockets are written from a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from generate.ir import GeneratorError
from generate.realtime import connections

TABLE = """
[toys]
event_id = "str | Omit"
doc = "Toys."

[toys.types]
ToyEvent = "types.toys.toy_event:ToyEvent"
ToyParam = "params.toys.toy_param:ToyParam"

[toys.resources.ToyMethods]
doc = "``connection.toy``."
wind = { event = "toy.wind", doc = "Wind it up.", fields = { toy = "ToyParam", turns = "int | Omit = omit" } }
stop = { event = "toy.stop", doc = "Stop it.", fields = {}, event_id = "required" }

[toys.connections.AsyncToyConnection]
doc = "An open connection."
manager = "What connects."
events = "ToyEvent"
toy = { resource = "ToyMethods", doc = "Methods for the toy." }
"""


def written(folder: Path, table: str = TABLE) -> str:
    (folder / "realtime.toml").write_text(table, encoding="utf-8")
    (text,) = connections(folder).values()
    compile(text, "toys.py", "exec")
    return text


def test_a_method_sends_its_event(tmp_path: Path) -> None:
    """With the fields of the table, in order, and `event_id`, which is optional unless the table says otherwise."""
    text = written(tmp_path)
    signature = "async def wind(self, *, toy: ToyParam, turns: int | Omit = omit, event_id: str | Omit = omit) -> None:"
    assert signature in text
    assert 'await self._send("toy.wind", toy=toy, turns=turns, event_id=event_id)' in text
    assert "async def stop(self, *, event_id: str) -> None:" in text


def test_a_connection_has_its_resources_and_a_manager(tmp_path: Path) -> None:
    """The kind of its events is imported at run time, parameters for type checkers alone."""
    text = written(tmp_path)
    head, _, body = text.partition("class ToyMethods(EventMethods):")
    run_time, _, checked = head.partition("if TYPE_CHECKING:")
    assert "from ..types.toys.toy_event import ToyEvent" in run_time
    assert "from ..params.toys.toy_param import ToyParam" in checked
    assert "class AsyncToyConnection(WebSocketConnection[ToyEvent]):" in body
    assert "_kind = ToyEvent" in body
    assert "return ToyMethods(self)" in body
    assert "class AsyncToyConnectionManager(Manager[AsyncToyConnection]):" in body


def test_a_resource_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A slip in the table stops the generator."""
    with pytest.raises(GeneratorError, match="ToyShop"):
        written(tmp_path, TABLE.replace('resource = "ToyMethods"', 'resource = "ToyShop"'))


def test_there_need_not_be_a_table(tmp_path: Path) -> None:
    """Without one there are no connections."""
    assert connections(tmp_path) == {}
