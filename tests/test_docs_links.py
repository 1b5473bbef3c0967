"""Links in README.md and docs/ lead to files, and to headings, that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose_of(page: Path) -> str:
    """The page without its code."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda match: match[0].replace("](", "] ("), text)


def anchors_of(page: Path) -> Iterator[str]:
    """The names of the page's headings, as GitHub makes them."""
    for heading in re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def dead_links(page: Path) -> list[str]:
    """Those of a page's links, within the repository, that lead nowhere."""
    dead: list[str] = []
    for link in LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """No link of the page is dead."""
    assert dead_links(page) == []


def test_every_page_is_in_the_index() -> None:
    """The index leads to every page of the docs."""
    index = (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES if page.parent.name == "docs" and f"({page.name})" not in index]
    assert missing == ["index.md"]


def test_dead_links_are_found(tmp_path: Path) -> None:
    """A file or a heading that is not there is reported; code and addresses elsewhere are left alone."""
    (tmp_path / "other.md").write_text("# What `x` *is*\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md#what-x-is) [b](#here) [c](gone.md) [d](other.md#gone) [e](https://example.com)\n"
        "`x[i](j)`\n```python\nf[i](j)\n```\n",
        encoding="utf-8",
    )
    assert dead_links(page) == ["gone.md", "other.md#gone"]
