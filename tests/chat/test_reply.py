"""What a turn ends with."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from openaiasync import Reply, ToolCall, ToolError, ToolResult
from openaiasync.chat.reply import total_usage
from openaiasync.types import CompletionUsage
from openaiasync.types.completion_usage import CompletionTokensDetails

from .test_messages import answer


def usage(prompt: int, completion: int, reasoning: int | None = None) -> CompletionUsage:
    details = None if reasoning is None else CompletionTokensDetails(reasoning_tokens=reasoning)
    return CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        completion_tokens_details=details,
    )


def test_usage_is_the_sum() -> None:
    """Of all answers, details too; what a server did not count is nothing."""
    total = total_usage([usage(1, 2), None, usage(3, 4, 5), usage(0, 0, 6), "garbled"])
    assert total == usage(4, 6, 11)
    assert total_usage([None, "x"]) is None
    garbled = usage(1, 1)
    garbled.prompt_tokens = "many"  # type: ignore[assignment]  # as a lenient decoder leaves it
    assert total_usage([garbled, usage(1, 1)]) == CompletionUsage(prompt_tokens=1, completion_tokens=2, total_tokens=4)


def test_a_reply_is_its_last_answer() -> None:
    """Message, finish reason and usage need no way through answers."""
    first, last = answer({"role": "assistant", "content": "a"}, "tool_calls"), answer({"content": "b"}, "stop")
    reply: Reply[None] = Reply(answers=[first, last], text="b")
    assert reply.answer is last
    assert reply.message is last.choices[0].message
    assert (reply.finish_reason, reply.usage, reply.text) == ("stop", None, "b")


def test_a_reply_of_nothing() -> None:
    """A turn that failed at once has a partial reply too."""
    reply: Reply[None] = Reply()
    assert (reply.message, reply.finish_reason, reply.usage, reply.text, reply.messages) == (None, None, None, "", [])
    with pytest.raises(LookupError, match="no answer was received"):
        _ = reply.answer


def test_replies_cross_process_borders() -> None:
    """As do the errors that hold them."""
    result = ToolResult(call=ToolCall(id="a", name="f", arguments="{}"), content="c")
    error = ToolError("m", call=result.call)
    error.partial = Reply[None](answers=[answer({"content": "a", "more": 1})], tool_calls=[result], text="a")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.call, again.partial) == ("m", result.call, error.partial)
    assert again.partial.answer.message.extra == {"more": 1}


def test_choices_of_another_shape_have_no_finish_reason() -> None:
    """A server that sends an object or a number in place of the list of choices fails no property."""
    from openaiasync.types.chat import ChatCompletion

    for choices in ({"0": 1}, 1.5, "x", None, []):
        made: Any = ChatCompletion.model_construct(choices=choices)
        reply: Reply[None] = Reply(answers=[made])
        assert reply.finish_reason is None
