"""Every test is run by some step of `scripts/check`: the default suite, or a step that selects its marker."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
WHOLE_SUITE = {"slow", "transformers"}  # selected from all tests by one step
BY_HAND = {"soak"}


def places_of(script: str) -> dict[str, set[PurePosixPath]]:
    """Return the files and folders of tests that each marker is selected from."""
    script = script.replace("\\\n", " ")
    found: defaultdict[str, set[PurePosixPath]] = defaultdict(set)
    for marker, rest in re.findall(r"-m pytest\b.* -m (\w+) (.*)", script):
        found[marker].update(PurePosixPath(word) for word in rest.split() if word.startswith("tests"))
        if "${tests" in rest:  # a loop over a table: NAME TESTS PACKAGES
            found[marker].update(PurePosixPath(word) for word in re.findall(r"^\S+ (tests/\S+) ", script, re.MULTILINE))
    return found


def test_each_marker_is_selected_where_it_is_used() -> None:
    """A test whose marker takes it out of the default suite is in a file that a step with this marker runs."""
    script = (REPOSITORY / "scripts" / "check").read_text(encoding="utf-8")
    (default,) = re.findall(r'"not \((.*)\)"', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    left_out = set(default.split(" or "))
    places = places_of(script)
    assert left_out - WHOLE_SUITE - BY_HAND == set(places)
    assert "-m 'slow or transformers'" in script
    assert len(places["frameworks"]) > 6
    forgotten = []
    for path in TESTS.rglob("*.py"):
        place = PurePosixPath(path.relative_to(REPOSITORY).as_posix())
        for marker in left_out.intersection(re.findall(r"pytest\.mark\.(\w+)", path.read_text(encoding="utf-8"))):
            if marker in places and not {place, *place.parents} & places[marker]:
                forgotten.append((marker, str(place)))
    assert forgotten == []
