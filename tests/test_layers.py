"""Imports go one way: each import under src/openaiasync is read and held against the layers of docs/architecture.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "openaiasync"

# Lowest first; a unit (a top-level module or package, or a package of `core`) may import its own layer and those before
# it.
LAYERS = (
    "version installation missing_names lazy plots storage core.model",
    "types errors",
    "params core.http core.codec core.schema core.policy",
    "endpoints",
    "transport budget",
    "engine",
    "bulk chat official realtime identity",
    "methods",
    "api",
    "options client",
    "_exceptions _types auth azure bridge compat lib loadtest otel pagination ray resources",
)
BASE_TO_ENDPOINTS = " ".join(LAYERS[:4])
# Units beside the layers, and all that each may import: units, or single modules of one.
BRANCHES = {
    "server": "version lazy errors core.model core.http core.codec core.schema core.policy endpoints storage.threads",
    "server.front": f"{BASE_TO_ENDPOINTS} transport engine server",
    "demo": f"{BASE_TO_ENDPOINTS} server",
    "testing": f"{BASE_TO_ENDPOINTS} transport server",
    "cli": " ".join((*LAYERS, "server server.front demo testing")),
    "__main__": "cli",
}
# The package itself imports this at its top; the rest of its names come lazily.
ROOT_MAY_IMPORT = {"version"}
ROOT_MAY_BE_IMPORTED_BY = {"cli", "testing"}
# (module or unit, unit): imports for type checkers alone (`if TYPE_CHECKING`) that turn back on purpose, each in use.
# At run time no import turns back.
EXEMPT = {
    ("types", "params"),  # official module paths of requests
    ("types", "official"),  # official module paths of parsed answers
    ("core.model.mixins", "types"),  # what the properties of answers return
    ("core.policy.request_options", "engine"),  # hooks, among the options of a call
    ("server", "server.front"),  # names of the package that come lazily: the kit alone loads no engine
}

NO_IO = {"asyncio", "concurrent", "multiprocessing", "select", "selectors", "socket", "ssl", "subprocess", "threading"}
CORE = tuple(f"core.{name}" for name in ("model", "http", "codec", "schema", "policy"))
FORBIDDEN = {
    **dict.fromkeys(["version", "installation", "lazy", "errors", "types", "params", "endpoints"], NO_IO),
    **dict.fromkeys(CORE, NO_IO | {"time", "random"}),
}
THIRD_PARTY = {
    "core.model": {"pyarrow", "pydantic_core"},  # in methods that these libraries call
    "cli": {"cyclopts", "keyring", "markdown_it", "numpy", "prompt_toolkit", "rich", "uvloop"},
    "testing": {"pytest"},
    "transport": {"httpx2"},
    "client": {"httpx2"},
    "realtime": {"websockets"},
    "budget": {"ray", "redis"},
    "bulk": {"fsspec", "genai_prices", "pyarrow"},
    "otel": {"opentelemetry"},
    "bridge": {"httpx2"},
    "ray": {"ray"},
}


def unit_of(module: str) -> str:
    """The unit of a module: its first name, within `core` its first two; `server.front` is a unit beside `server`."""
    parts = module.split(".")
    return ".".join(parts[:2] if parts[0] == "core" or parts[:2] == ["server", "front"] else parts[:1])


class Import(NamedTuple):
    """One import statement: in which module and line, what it names, and whether it runs at import time."""

    module: str  # dotted, below the package; "" is the package's own __init__
    line: int
    target: str  # dotted, below the package; or absolute, with `foreign`
    foreign: bool
    at_top: bool
    typed: bool = False  # for type checkers alone

    @property
    def unit(self) -> str:
        return unit_of(self.module)

    @property
    def target_unit(self) -> str:
        return self.target.partition(".")[0] if self.foreign else unit_of(self.target)

    def __str__(self) -> str:
        return f"{self.module or '__init__'}:{self.line} imports {self.target or 'the package itself'}"


def read_tree(root: Path) -> list[Import]:
    """Every import of every module under `root`, the package's folder."""
    paths = {dotted(path.relative_to(root)): path for path in sorted(root.rglob("*.py"))}
    found: list[Import] = []
    for module, path in paths.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=str(path))
        calls = "import_module" in text or "__import__" in text
        for node, at_top, typed in statements(tree, at_top=True, calls=calls):
            for name, foreign in targets(node, package, root.name, paths.keys()):
                found.append(Import(module, node.lineno, name, foreign, at_top and not typed, typed))
    return found


def dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(
    node: ast.AST, *, at_top: bool, calls: bool, typed: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom | ast.Call, bool, bool]]:
    """Every node that can import, with whether it runs at import time, and whether it is in `if TYPE_CHECKING`.

    Without `calls` expressions are not looked into: none of them imports.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and not calls:
            continue
        if isinstance(child, ast.If) and names_type_checking(child.test):
            yield from statements(ast.Module(child.body, []), at_top=at_top, calls=calls, typed=True)
            yield from statements(ast.Module(child.orelse, []), at_top=at_top, calls=calls, typed=typed)
            continue
        if isinstance(child, ast.Import | ast.ImportFrom | ast.Call):
            yield child, at_top, typed
        nested = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from statements(child, at_top=at_top and not nested, calls=calls, typed=typed)


def names_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def targets(
    node: ast.Import | ast.ImportFrom | ast.Call, package: str, name: str, modules: Collection[str]
) -> Iterator[tuple[str, bool]]:
    """What an import node imports, as (dotted name, whether it is foreign)."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield below(alias.name, name)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            base, foreign = up(package, node.level, node.module), False
        else:
            base, foreign = below(node.module or "", name)
        for alias in node.names:
            inner = f"{base}.{alias.name}".lstrip(".")
            yield (inner if not foreign and inner in modules else base), foreign
    else:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0] if node.args else None
        if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
            text = str(first.value)
            level = len(text) - len(text.lstrip("."))
            yield (up(package, level, text.lstrip(".")), False) if level else below(text, name)


def below(absolute: str, name: str) -> tuple[str, bool]:
    """An absolute name as a name below the package, if it is one."""
    head, _, rest = absolute.partition(".")
    return (rest, False) if head == name else (absolute, True)


def up(package: str, level: int, module: str | None) -> str:
    """The target of a relative import of so many dots from within `package`."""
    parts = package.split(".") if package else []
    kept = parts[: len(parts) - (level - 1)]
    return ".".join([*kept, *([module] if module else [])])


def allowed_units(unit: str) -> set[str]:
    """All that a unit may import of the package; empty for a unit that no layer names."""
    if unit in BRANCHES:
        return {unit, *BRANCHES[unit].split()}
    seen: set[str] = set()
    for layer in LAYERS:
        seen.update(layer.split())
        if unit in layer.split():
            return seen
    return set()


def layer_faults(imports: list[Import]) -> list[str]:
    """The imports that no layer allows, each with its reason."""
    faults: list[str] = []
    for one in imports:
        if one.foreign:
            fault = foreign_fault(one)
        elif one.module == "":
            fault = "at its top" if one.at_top and one.target_unit not in ROOT_MAY_IMPORT else ""
        elif one.target == "":
            fault = "" if one.unit in ROOT_MAY_BE_IMPORTED_BY else "name the module that defines it"
        elif one.typed and {(one.module, one.target_unit), (one.unit, one.target_unit)} & EXEMPT:
            fault = ""
        elif not allowed_units(one.unit):
            fault = f"the unit {one.unit} is in no layer"
        elif {one.target_unit, one.target} & allowed_units(one.unit):
            fault = ""
        else:
            fault = f"{one.unit} may not import {one.target_unit}"
        if fault:
            faults.append(f"{one}: {fault}")
    return faults


def foreign_fault(one: Import) -> str:
    name = one.target_unit
    if name in FORBIDDEN.get(one.unit, ()):
        return f"{one.unit} does no I/O, reads no clock and draws no random number"
    if name in sys.stdlib_module_names or name == "msgspec" or name in THIRD_PARTY.get(one.unit, ()):
        return ""
    return f"{one.unit} may not depend on {name}"


def cycles(imports: list[Import]) -> list[str]:
    """Modules that import each other, in functions or not, as one line a cycle."""
    edges: dict[str, set[str]] = {}
    for one in imports:
        if not (one.foreign or one.typed) and one.module and one.target and one.target != one.module:
            edges.setdefault(one.module, set()).add(one.target)
    found: list[str] = []
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append(" → ".join([*trail[trail.index(module) :], module]))
            return
        if module in done:
            return
        for target in sorted(edges.get(module, ())):
            visit(target, [*trail, module])
        done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return found


CLOCKS_AND_CHANCE = {"now", "utcnow", "today", "time", "monotonic", "random", "uniform", "randint"}


def clock_faults(root: Path) -> list[str]:
    """Calls in core that read a clock or make a random number, under whatever name their module was imported."""
    return [
        f"{dotted(path.relative_to(root))}:{node.lineno} calls {ast.unparse(node.func)}"
        for path in sorted((root / "core").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS_AND_CHANCE
    ]


@cache
def source() -> list[Import]:
    return read_tree(SOURCE)


def test_imports_go_one_way() -> None:
    """No module imports a layer above its own, not even inside a function or for type checkers alone."""
    assert layer_faults(source()) == []


def test_no_module_is_in_a_cycle() -> None:
    """Every module can be read without first understanding one that needs it."""
    assert cycles(source()) == []


def test_parts_that_users_combine_do_not_know_each_other() -> None:
    """Chat, bulk and server never import each other, nor does the server its demo: each can be read by itself."""
    apart = [("chat", "bulk"), ("chat", "server"), ("bulk", "server")]
    forbidden = {*apart, *((other, one) for one, other in apart), ("server", "demo")}
    assert [str(one) for one in source() if not one.foreign and (one.unit, one.target_unit) in forbidden] == []


def test_core_is_passed_the_time() -> None:
    """Nothing in core reads a clock, by the calendar either, or draws a random number: both are passed in."""
    assert clock_faults(SOURCE) == []


def test_a_clock_is_caught(tmp_path: Path) -> None:
    """A date is a clock, too."""
    text = "import datetime as d\ndef f(facts):\n    return d.datetime.now(), facts.now\n"
    assert clock_faults(write_tree(tmp_path, {"core/policy/retry.py": text})) == [
        "core.policy.retry:3 calls d.datetime.now"
    ]


def test_core_loads_no_event_loop() -> None:
    """Importing all of core loads neither asyncio nor sockets: the rule holds for what it imports, too."""
    code = (
        "import importlib, pathlib, sys, openaiasync.core as core\n"
        "folder = pathlib.Path(core.__file__).parent\n"
        "for path in sorted(folder.rglob('*.py')):\n"
        "    name = '.'.join(('openaiasync.core', *path.relative_to(folder).with_suffix('').parts))\n"
        "    importlib.import_module(name.removesuffix('.__init__'))\n"
        "print(*sorted({'asyncio', 'socket', 'selectors', 'ssl', 'concurrent.futures'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_exemptions_are_in_use() -> None:
    """An exemption that nothing needs any more is taken out."""
    typed = [one for one in source() if one.typed and not one.foreign]
    used = {(unit, one.target_unit) for one in typed for unit in (one.module, one.unit)}
    assert used >= EXEMPT


def test_every_unit_has_a_layer_and_stands_in_the_docs() -> None:
    """The table in docs/architecture.md leaves no module out, and no layer names one that is gone."""
    units = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    units -= {"__init__", "__main__", "core"}
    units |= {f"core.{path.name}" for path in (SOURCE / "core").iterdir() if (path / "__init__.py").is_file()}
    assert set(" ".join(LAYERS).split()) | BRANCHES.keys() - {"__main__", "server.front"} == units
    table = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [
        unit for unit in sorted(units) if f"`{unit}`" not in table and f"`{unit.replace('.', '/')}/`" not in table
    ] == []


def test_the_docs_name_files_that_exist() -> None:
    """Each file that docs/architecture.md names is there: with its folder, or by its name alone."""
    root = SOURCE.parents[1]
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+\.py)`", text))
    known = {
        f"/{path.relative_to(root)}"
        for folder in ("src", "tests", "tools", "bench")
        for path in (root / folder).rglob("*.py")
    }
    assert sorted(name for name in named if not any(path.endswith(f"/{name}") for path in known)) == []
    assert len(named) > 50


MADE_UP = {
    "a function turns the arrow back": (
        "core/policy/retry.py",
        "def f():\n    from ...engine import call\n",
        "may not import",
    ),
    "an absolute import": ("core/policy/retry.py", "import openaiasync.engine\n", "may not import"),
    "an else of TYPE_CHECKING": (
        "core/policy/retry.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    from ...client import x\n",
        "may not import",
    ),
    "a dynamic import": ("errors.py", "import importlib\nimportlib.import_module('.client', 'x')\n", "may not import"),
    "an import by the package": ("errors.py", "from . import client\n", "may not import"),
    "for type checkers alone": (
        "core/policy/retry.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ...client import Client\n",
        "may not import",
    ),
    "I/O in core": ("core/http/response.py", "import asyncio.streams\n", "no I/O"),
    "a clock in core": ("core/policy/limits.py", "from time import monotonic\n", "no clock"),
    "chance in core": ("core/policy/retry.py", "def f():\n    from random import random\n", "no random number"),
    "sockets in errors": ("errors.py", "def f():\n    import socket\n", "no I/O"),
    "a new dependency": ("engine/call.py", "import anyio\n", "may not depend on anyio"),
    "a unit of no layer": ("nowhere.py", "from .errors import E\n", "in no layer"),
    "an eager package": ("__init__.py", "from .client import Client\n", "at its top"),
    "a module that imports the package": ("api/chat.py", "from .. import Client\n", "name the module"),
    "the server uses the demo": ("server/app.py", "def f():\n    from ..demo import demo_app\n", "may not import demo"),
    "the server writes files": ("server/app.py", "from ..storage.atomic import write_file\n", "may not import storage"),
    "the server uses the client": ("server/app.py", "from ..client import Client\n", "may not import"),
}


@pytest.mark.parametrize("name", MADE_UP)
def test_a_wrong_import_is_caught(name: str, tmp_path: Path) -> None:
    """Each way to break the layers is seen."""
    where, text, reason = MADE_UP[name]
    root = write_tree(tmp_path, {"engine/call.py": "", "client.py": "", where: text})
    (fault,) = layer_faults(read_tree(root))
    assert reason in fault


def test_right_imports_pass(tmp_path: Path) -> None:
    """Exempted types for the checker, lower layers, the package's lazy names and the command line are no faults."""
    lazy = "def __getattr__(name):\n    from . import client\n    return client\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ...engine import Engine\n"
    tree = {
        "__init__.py": f"from .version import v\n{lazy}",
        "version.py": "",
        "core/policy/request_options.py": typed + "import json, msgspec\nfrom ...errors import E\n",
        "client.py": "import asyncio\nfrom .engine.call import run\nfrom .options import S\n",
        "cli/main.py": "import rich\nfrom .. import Client\nfrom ..server import serve\n",
    }
    imports = read_tree(write_tree(tmp_path, tree))
    assert layer_faults(imports) == []
    assert cycles(imports) == []


def test_a_cycle_is_caught(tmp_path: Path) -> None:
    """Two modules of one layer that import each other are a cycle, even from inside a function."""
    tree = {"lazy.py": "from .errors import E\n", "errors.py": "def f():\n    from .lazy import M\n"}
    assert cycles(read_tree(write_tree(tmp_path, tree))) == ["errors → lazy → errors"]


def write_tree(folder: Path, files: dict[str, str]) -> Path:
    root = folder / "openaiasync"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root
