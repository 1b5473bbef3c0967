"""Write the packages of `types/` and `params/`, whose names are imported at first use to keep imports cheap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from .names import Place, plain
from .source import HEADER, Module, import_line, indent, listing

_GETATTR = """
if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {table},
    )
"""


def read_exports(path: Path) -> dict[str, list[str]]:
    """Read `type_names.tsv`: package below `types` → its public names."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        module, name, _ = line.split("\t")
        found.setdefault(module.removeprefix("types").lstrip("."), []).append(name)
    return found


def home(package: str, name: str, places: Mapping[str, list[Place]]) -> Place | None:
    """Return where `package` imports `name` from: its module of that name; at the top also a shared one."""
    own = [p for p in places.get(name, ()) if plain(name) == plain(p.module.rpartition(".")[2])]
    inside = [p for p in own if p.module.rpartition(".")[0] == package]
    shared = [p for p in own if p.module.startswith(("shared.", "shared_params.")) and not package]
    return next(iter(sorted(inside) or sorted(shared)), None)


def by_name(places: Iterable[Place]) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(place.name, []).append(place)
    return found


def lazy_text(side: str, name: str, exports: dict[str, tuple[str, Place]], doc: str) -> str:
    """Return a module that offers `exports` (name → side and place), each imported at first use."""
    if not exports:
        return HEADER + f'"""{doc}"""\n'
    module = Module(side, name)
    table: list[str] = []
    lines: list[str] = []
    for offered, (where, place) in sorted(exports.items()):
        relative = module.relative(f"{where}.{place.module}")
        lines.append(indent(import_line(relative, [f"{place.name} as {offered}"])))
        table.append(f'            "{offered}": "{relative}",')
    text = [HEADER + f'"""{doc}"""\n', "from __future__ import annotations\n", "from typing import TYPE_CHECKING\n"]
    text += [f"from {module.relative('lazy')} import lazy_names\n", "if TYPE_CHECKING:", *lines, ""]
    text += [f"__all__ = {listing(sorted(exports))}"]
    return "\n".join(text) + "\n" + _GETATTR.format(table="{\n" + "\n".join(table) + "\n        }")
