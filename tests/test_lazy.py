"""Annotations resolve at run time although their names are imported for type checkers only."""

from __future__ import annotations

import importlib.util
import sys
import typing
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

SOURCE = """
from __future__ import annotations

from typing import TYPE_CHECKING

from openaiasync.lazy import resolve_annotations

if TYPE_CHECKING:
    from decimal import Decimal
    from a_module_that_is_not_installed import Missing

__all__ = ["price"]

def price(of: str) -> Decimal: ...

def stock(of: str) -> Missing: ...

class Offer:
    price: Decimal

resolve_annotations(__name__)
"""


class Opaque:
    """A loader that hands out no source, as that of pytest for rewritten modules."""

    def __init__(self, path: str) -> None:
        self._loader = SourceFileLoader("annotated", path)

    def create_module(self, spec: typing.Any) -> None:
        return None

    def exec_module(self, module: typing.Any) -> None:
        exec(compile(Path(self._loader.path).read_text(), self._loader.path, "exec"), module.__dict__)


@pytest.fixture(params=["with source", "opaque", "bytecode alone"])
def module(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typing.Any:
    path = tmp_path / "annotated.py"
    path.write_text(SOURCE)
    loader = SourceFileLoader("annotated", str(path)) if request.param == "with source" else Opaque(str(path))
    spec = importlib.util.spec_from_file_location("annotated", path, loader=typing.cast("typing.Any", loader))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "annotated", module)
    typing.cast("typing.Any", loader).exec_module(module)
    if request.param == "bytecode alone":
        path.unlink()
    setattr(module, "installed", request.param != "bytecode alone")  # noqa: B010  (modules declare no such attribute)
    return module


def test_hints_resolve_whatever_loaded_the_module(module: typing.Any) -> None:
    """Unless the source is not there: then the error names what is missing."""
    from decimal import Decimal

    if module.installed:
        assert typing.get_type_hints(module.price) == {"of": str, "return": Decimal}
        assert typing.get_type_hints(module.Offer) == {"price": Decimal}
    else:
        with pytest.raises(NameError, match="Decimal"):
            typing.get_type_hints(module.price)


def test_a_name_that_is_not_installed_is_named(module: typing.Any) -> None:
    with pytest.raises(NameError, match="Missing"):
        typing.get_type_hints(module.stock)
