"""A model by script: words, tool calls, a refusal, a cut stream; whole or streamed, as asked."""

from __future__ import annotations

from typing import Any, NamedTuple

from openaiasync.testing import FakeServer

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


class Reply(NamedTuple):
    """What the model does in one turn."""

    text: str = ""
    tool: str = ""  # to be called with `arguments`
    arguments: Any = None
    status: int = 200
    cut: bool = False  # the connection breaks in the middle


def model(*replies: Reply) -> FakeServer:
    """A server that gives these replies in turn, and the last one from then on."""
    server = FakeServer()
    for number, reply in enumerate(replies, 1):
        times = None if number == len(replies) else 1
        if reply.status != 200:
            fields = {"X-Request-Id": "req-1"}
            code = "rate_limit_exceeded"
            server.fail(reply.status, "slow down", retry_after=0, code=code, headers=fields, times=times)
        elif reply.cut:
            server.cut(after=4, text=reply.text, times=times)
        elif reply.tool:
            call = {"name": reply.tool, "arguments": reply.arguments}
            server.reply(tool_calls=[call], usage=USAGE, times=times)
        else:
            server.reply(reply.text, usage=USAGE, times=times)
    return server
