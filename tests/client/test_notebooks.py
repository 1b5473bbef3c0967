"""What a notebook shows for answers: text as Markdown, images and sound as themselves."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from conftest import run
from openaiasync import Client
from openaiasync.chat.reply import Reply, ToolCall, ToolResult
from openaiasync.core.model import notebook
from openaiasync.types import Image, ImagesResponse
from openaiasync.types.chat import ChatCompletion
from openaiasync.types.responses import Response
from scripted import Seen, answer, scripted

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 8
GIF = b"GIF89a" + b"\0" * 8
WAV = b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 28


def shown(value: Any) -> dict[str, Any]:
    """Return the representations that IPython's own formatter finds."""
    formatters = pytest.importorskip("IPython.core.formatters")
    formatter = formatters.DisplayFormatter()
    formatter.active_types = formatter.format_types
    bundle, _ = formatter.format(value)
    return dict(bundle)


def chat(**message: Any) -> ChatCompletion:
    message = {"role": "assistant", **message}
    return ChatCompletion.model_construct(
        id="c", created=1, model="m", object="chat.completion", choices=[{"index": 0, "message": message}]
    )


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_chat_answers_are_markdown() -> None:
    """The text is shown as the model wrote it; tool calls as a list, whose code spans hold backticks."""
    assert shown(chat(content="**Hi**"))["text/markdown"] == "**Hi**"
    call = {"id": "1", "type": "function", "function": {"name": "run", "arguments": '{"a":\n "`b`"}'}}
    assert shown(chat(content=None, tool_calls=[call]))["text/markdown"] == '- `` run({"a": "`b`"}) ``'
    assert "text/markdown" not in shown(chat(content=None))


def test_responses_are_markdown() -> None:
    """The text of all messages, after the calls of functions."""
    output = [
        {"type": "function_call", "name": "run", "arguments": "{}", "call_id": "1"},
        {"type": "message", "content": [{"type": "output_text", "text": "**Hi**"}]},
    ]
    assert shown(Response.model_construct(output=output))["text/markdown"] == "- `run({})`\n\n**Hi**"
    assert "text/markdown" not in shown(Response.model_construct(output=[]))


def test_replies_are_markdown() -> None:
    """Tool calls come before the text, with those that failed; JSON is a code block."""
    call = ToolCall(id="1", name="add", arguments='{"a": 1}')
    failed = ToolResult(call=call, content="", error=ValueError("no"))
    reply: Reply[Any] = Reply(text="3", tool_calls=[ToolResult(call=call, content="3"), failed])
    assert shown(reply)["text/markdown"] == '- `add({"a": 1})`\n- `add({"a": 1})`: failed\n\n3'
    parsed: Reply[Any] = Reply(text='{"x": 1}', parsed={"x": 1})
    assert shown(parsed)["text/markdown"] == '```json\n{"x": 1}\n```'


def test_images() -> None:
    """PNG and JPEG are shown once, as themselves; other types and links as HTML, escaped; several ones together."""
    png = shown(Image(b64_json=b64(PNG)))
    assert png["image/png"] in (PNG, b64(PNG), b64(PNG) + "\n")
    assert "text/html" not in png
    assert "image/jpeg" in shown(Image(b64_json=b64(JPEG)))
    assert shown(Image(b64_json=b64(GIF)))["text/html"] == f'<img src="data:image/gif;base64,{b64(GIF)}">'
    link = shown(Image(url='https://host/a"><script>'))["text/html"]
    assert link == '<img src="https://host/a&quot;&gt;&lt;script&gt;">'
    assert "text/html" not in shown(Image(url="javascript:alert(1)"))
    assert set(shown(Image(b64_json="no base64!"))) == {"text/plain"}
    both = shown(ImagesResponse(created=1, data=[Image(b64_json=b64(PNG)), Image(b64_json=b64(GIF))]))
    assert both["text/html"].count("<img ") == 2


def test_large_media_are_not_embedded() -> None:
    """Above the limit a notebook shows the plain repr."""
    large = GIF + bytes(notebook.LARGEST_SHOWN)
    assert notebook.media_html(large) is None
    assert Image(b64_json=b64(large))._repr_html_() is None


def test_sound() -> None:
    """Speech has a player of its real type; raw samples, which no browser plays, have none."""

    async def main() -> None:
        bodies = [WAV, b"\1\2" * 400]

        async def script(seen: Seen, writer: Any) -> None:
            writer.write(answer(bodies.pop(0), 200, "audio/pcm"))

        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            sound = await client.text_to_speech("hi")
            html = f'<audio controls src="data:audio/wav;base64,{b64(WAV)}"></audio>'
            assert shown(sound)["text/html"] == html
            assert "text/html" not in shown(await client.text_to_speech("hi"))

    run(main())


def test_video_is_no_sound() -> None:
    assert (notebook.media_html(b"\0\0\0\x18ftypmp42", "video/mp4") or "").startswith("<video controls src=")
    assert notebook.media_html(b"text", 'video/"><script>') is None
