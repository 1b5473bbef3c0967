"""Conversations as Markdown: everything that was said, readable, and nothing that breaks the page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from openaiasync.chat.history import to_markdown

CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_a_conversation() -> None:
    """A heading for each side; calls and results in fences under the model's heading."""
    made = to_markdown(
        [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "What is 1 + 2?\n"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "3"},
            {"role": "assistant", "content": "It is **3**."},
            {"role": "user", "content": "Thanks"},
            {"role": "assistant", "refusal": "No."},
        ]
    )
    assert made == (
        "## System\n\nbe kind\n\n## User\n\nWhat is 1 + 2?\n\n## Assistant\n\nCalls `add`:\n\n```json\n"
        '{"a": 1}\n```\n\nResult:\n\n```\n3\n```\n\n'
        "It is **3**.\n\n## User\n\nThanks\n\n## Assistant\n\n*Refused:* No.\n"
    )
    assert to_markdown([]) == ""


@pytest.mark.parametrize("text", ["```\ncode\n```", "`````", "no fence", "a ```` b\n```"])
def test_fences_hold_whatever_a_tool_says(text: str) -> None:
    """The fence is longer than any in the text."""
    made = to_markdown([{"role": "tool", "tool_call_id": "c", "content": text}])
    fence = re.findall(r"^(`+)$", made, re.MULTILINE)[-1]
    assert made.endswith(f"\n{fence}\n{text}\n{fence}\n")
    assert fence not in text


def test_parts_are_shown_or_named() -> None:
    """Links as images; images and sound in the request by type and size, without their data."""
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "See: "},
        {"type": "image_url", "image_url": {"url": "https://example.org/a b.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}},
        {"type": "input_audio", "input_audio": {"data": "A" * 4000, "format": "wav"}},
        {"type": "image_url"},
    ]
    made = to_markdown([{"role": "user", "content": parts}])
    assert made == (
        "## User\n\nSee:\n\n![image](<https://example.org/a b.png>)\n\n*(image: image/png, 3,000 bytes)*\n\n"
        "*(input audio)*\n\n![image](<>)\n"
    )


def test_custom_tools() -> None:
    """Their input is a text in no language."""
    call = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    assert "Calls `sql`:\n\n```\nselect 1\n```" in to_markdown([{"role": "assistant", "tool_calls": [call]}])
