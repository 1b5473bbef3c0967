"""The API reference of the documentation site names everything that is public."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
NOT_OBJECTS = {"NoneType", "__title__", "__version__", "types"}  # nothing with a docstring of this library


def directives() -> list[str]:
    """The paths whose docstrings the page includes."""
    return re.findall(r"^::: (\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("module", ["", ".server", ".testing", ".realtime", ".otel", ".loadtest"])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    """The page includes each public name of the module, or the same name of the package."""
    path = "openaiasync" + module
    public = set(importlib.import_module(path).__all__) - NOT_OBJECTS
    listed = {one.rpartition(".")[2] for one in directives() if one.rpartition(".")[0] in (path, "openaiasync")}
    assert sorted(public - listed) == []


def test_the_reference_names_only_what_exists_and_once() -> None:
    """Each path of the page leads to an object, and none is listed twice."""
    paths = directives()
    assert len(paths) == len(set(paths))
    for path in paths:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path
