"""Markdown for answers: rich's, but HTML and the targets of links are shown, and headings are aligned left."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from markdown_it import MarkdownIt
from rich.markdown import Heading, MarkdownElement
from rich.markdown import Markdown as RichMarkdown

from ..core.http.lines import split_lines
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.segment import Segment

__all__ = ["last_block_line", "last_code_block", "markdown_lines"]

_PARSER = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")


class _LeftHeading(Heading):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Markdown(RichMarkdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {**RichMarkdown.elements, "heading_open": _LeftHeading}

    def __init__(self, markup: str) -> None:
        super().__init__("", code_theme="ansi_dark", justify="default", hyperlinks=False)
        self.markup = markup
        self.parsed = _PARSER.parse(markup)


def markdown_lines(source: str, console: Console, options: ConsoleOptions | None = None) -> list[list[Segment]]:
    """Return the lines of a piece of Markdown on this console, with one empty line between blocks."""
    lines: list[list[Segment]] = []
    for block in _blocks(source):
        made = _block_lines(block, console, options or console.options)
        lines += [[], *made] if lines and made else made
    return lines


def _blocks(source: str) -> list[str]:
    lines = split_lines(source, keep_ends=True)
    starts = _block_starts(source)
    return ["".join(lines[begin:end]) for begin, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


def _block_lines(source: str, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
    """Return a block's lines without the empty lines that rich adds before or after some blocks."""
    lines = console.render_lines(_Markdown(source), options, pad=False)
    filled = [any(segment.text.strip() for segment in line) for line in lines]
    if True not in filled:
        return []
    return lines[filled.index(True) : len(filled) - filled[::-1].index(True)]


def _block_starts(source: str) -> list[int]:
    return [token.map[0] for token in _PARSER.parse(source) if token.level == 0 and token.map and token.nesting >= 0]


def last_block_line(source: str) -> int:
    """Return the line, from 0, in which the last block begins; 0 if there is only one."""
    starts = _block_starts(source)
    return starts[-1] if starts else 0


def last_code_block(source: str) -> str | None:
    """Return the content of the last fenced code block of a text, in lists and quotations too; `None` without one."""
    blocks = [token.content for token in _PARSER.parse(source) if token.type == "fence"]
    return blocks[-1] if blocks else None


resolve_annotations(__name__)
