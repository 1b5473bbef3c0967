"""What a notebook shows for an answer: Markdown for text, HTML with the data inside for images, sound and video."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from .media_types import media_type_of

__all__ = ["LARGEST_SHOWN", "calls_and_text", "media_html", "tag"]

LARGEST_SHOWN = 16 << 20  # bytes; a notebook stores what it shows, and larger ones make it unusable
_BACKTICKS = re.compile("`+")
_TAGS = {"image": "img", "audio": "audio controls", "video": "video controls"}
_VIDEO = re.compile(r"video/[a-z0-9.+-]+\Z")


def _code(text: str) -> str:
    """Return a text as a code span, whose fence is longer than any run of backticks in it."""
    fence = "`" * (1 + max(map(len, _BACKTICKS.findall(text)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{' '.join(text.split())}{space}{fence}"


def calls_and_text(calls: Iterable[tuple[str, str, str]], text: str) -> str | None:
    """Return tool calls as a list, then the text; `None` without either. A call is its name, arguments and outcome."""
    lines = "\n".join(f"- {_code(f'{name}({arguments})')}{outcome}" for name, arguments, outcome in calls)
    return "\n\n".join(part for part in (lines, text) if part) or None


def tag(kind: str, source: str) -> str:
    """Return the HTML element for a media type's kind (``"image"``, ``"audio"``, ``"video"``) with this source."""
    import html  # costs time to import, and only notebooks need it

    name = _TAGS[kind]
    end = "" if name == "img" else f"</{name.partition(' ')[0]}>"
    return f'<{name} src="{html.escape(source)}">{end}'


def media_html(data: bytes, declared: str = "") -> str | None:
    """Return HTML that shows an image or plays sound or video; `None` for other data and above `LARGEST_SHOWN`.

    The type is that of the first bytes; the `declared` one decides only that MP4 and WebM are video.
    """
    if len(data) > LARGEST_SHOWN:
        return None
    kind = declared if _VIDEO.match(declared) else media_type_of(data)
    if kind is None:
        return None
    return tag(kind.partition("/")[0], f"data:{kind};base64,{base64.b64encode(data).decode()}")
