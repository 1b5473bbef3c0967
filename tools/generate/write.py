"""The command: write changed files and remove obsolete ones, or only list them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .build import Tables
from .ir import GeneratorError
from .page import NAME

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("types", "params", "api")


def stale(package: Path, docs: Path, texts: Mapping[str, str]) -> list[str]:
    """Return the paths below `package` (or `docs`) that differ from `texts`, are missing, or are obsolete."""
    found = [path for path, text in texts.items() if not _same(_home(package, docs, path) / path, text)]
    for place in PLACES:
        there = (path.relative_to(package).as_posix() for path in (package / place).rglob("*.py"))
        found += [path for path in there if path not in texts]
    return sorted(found)


def _home(package: Path, docs: Path, path: str) -> Path:
    return docs if path == NAME else package


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode("utf-8")


def write(package: Path, docs: Path, texts: Mapping[str, str]) -> list[str]:
    """Write `texts` to `package` and `docs`; return the changed paths."""
    touched = stale(package, docs, texts)
    for name in touched:
        path = _home(package, docs, name) / name
        if name in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(texts[name].encode("utf-8"))
        else:
            path.unlink()
            for folder in path.parents:
                if folder == package or any(folder.iterdir()):
                    break
                folder.rmdir()
    return touched


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if done or up to date, 1 if stale, 2 if tables and description disagree."""
    parser = argparse.ArgumentParser(
        prog="generate", description="Generate types, params, endpoints, api and the page of methods."
    )
    parser.add_argument("--spec", type=Path, required=True, metavar="PATH", help="the OpenAPI description (JSON)")
    parser.add_argument("--tables", type=Path, default=ROOT / "spec", metavar="DIR", help="the hand-written tables")
    parser.add_argument("--package", type=Path, default=ROOT / "src/openaiasync", metavar="DIR", help="where to write")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="where the page of methods is")
    parser.add_argument("--areas", default="", metavar="A,B", help="only these areas (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 and name what is stale")
    options = parser.parse_args(arguments)
    areas = [area for area in options.areas.split(",") if area]
    try:
        texts = Tables(options.tables).build(options.spec, areas)
    except GeneratorError as error:
        print(f"generate: {error}", file=sys.stderr)
        return 2
    if options.check:
        old = stale(options.package, options.docs, texts)
        for path in old:
            print(f"stale: {path}")
        return 1 if old else 0
    for path in write(options.package, options.docs, texts):
        print(path)
    return 0
