"""Chat completions: a completion, or its chunks, from the pieces of a handler."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from ..core.model.plain import as_dict, is_dict
from ..lazy import resolve_annotations
from .context import DONE, RequestContext, event_of
from .errors import HTTPError
from .handlers import RegisteredHandler, for_each_result, merged, open_handler, run_together
from .ids import random_hex
from .pieces import ContentDelta, Finish, Piece, ReasoningDelta, RefusalDelta, ToolCallDelta, UsageReport, pieces_of
from .requests import ChatRequest
from .tokens import count_prompt, count_tokens, split_tokens

if TYPE_CHECKING:
    from .app import Server

__all__ = ["ChatAnswer", "ChoiceWriter", "StopCutter", "create_chat", "token_chance", "usage_of"]

_NULL: Final = b"null"


async def create_chat(app: Server, context: RequestContext) -> None:
    """Serve ``POST /chat/completions``."""
    body = await app.read_body(context)
    check_chat(body)
    handler = app.handlers.find("chat", body["model"])
    async with app.admitted(context):
        answer = ChatAnswer(body, context)

        if body.get("stream"):

            def keep() -> None:
                if body.get("store"):
                    app.completions.keep(answer.completion(), body["messages"])

            app.spend(context, answer.prompt_tokens)
            await context.send_events(answer.events(handler, keep))
        else:
            async with context.presence():
                await answer.run(handler)
                completion = answer.completion()
                app.spend(context, completion["usage"]["total_tokens"])
                if body.get("store"):
                    app.completions.keep(completion, body["messages"])
                await context.send_json(completion)


def check_chat(body: dict[str, Any]) -> None:
    """Raise `HTTPError` (400) for fields that contradict each other."""
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise _contradiction("top_logprobs", "'top_logprobs' requires 'logprobs' to be true.")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise _contradiction("stream_options", "'stream_options' is only allowed when 'stream' is true.")
    for place, message in enumerate(body["messages"]):
        if message.get("content") is not None:
            continue
        given = ("tool_calls", "function_call", "refusal", "audio") if message["role"] == "assistant" else ()
        if not any(message.get(name) for name in given):
            param = f"messages[{place}].content"
            text = f"Missing required parameter: '{param}'."
            raise HTTPError(400, text, param=param, code="missing_required_parameter")
    tools: list[dict[str, Any]] = body.get("tools") or []
    choice: Any = body.get("tool_choice")
    if choice not in (None, "none", "auto") and not tools:
        raise _contradiction("tool_choice", "'tool_choice' is only allowed when 'tools' are specified.")
    if not is_dict(choice):
        return
    named: list[Any] = choice["allowed_tools"]["tools"] if choice["type"] == "allowed_tools" else [choice]
    known = {(tool["type"], tool[tool["type"]]["name"]) for tool in tools}
    for one in named:  # the description lets any objects pass as allowed tools
        kind: Any = as_dict(one).get("type")
        name: Any = as_dict(as_dict(one).get(str(kind))).get("name")
        if not isinstance(kind, str) or not isinstance(name, str) or (kind, name) not in known:
            raise _contradiction("tool_choice", f"'tool_choice' names {name!r}, which is not in 'tools'.")


def _contradiction(param: str, message: str) -> HTTPError:
    return HTTPError(400, message, param=param, code="invalid_value")


def usage_of(prompt: int, completion: int, reasoning: int = 0, cached: int = 0) -> dict[str, Any]:
    """Return the ``usage`` object of a chat completion."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def token_chance(token: str, logprob: float) -> dict[str, Any]:
    """Return a token with its log probability in the form of chat completions and transcripts."""
    return {"token": token, "logprob": round(logprob, 6), "bytes": list(token.encode("utf-8", "surrogatepass"))}


class _StopString:
    """Finds one stop string in a text that comes in pieces, in linear time (Knuth, Morris and Pratt).

    The table of the string is made only as far as texts have matched it, since clients may send very long ones.
    """

    __slots__ = ("_borders", "_text", "matched")

    def __init__(self, text: str) -> None:
        self._text = text
        self._borders = [0]  # of each prefix: the length of its longest proper suffix that is a prefix, too
        self.matched: int = 0  # the length of the longest prefix of the string that ends the text

    def __len__(self) -> int:
        return len(self._text)

    def feed(self, piece: str) -> int:
        """Take the next piece of the text. Return where in it the stop string ends, -1 if it does not."""
        text, borders, matched = self._text, self._borders, self.matched
        place, end = 0, len(piece)
        while place < end:
            if not matched:
                place = piece.find(text[0], place)  # most texts are skipped here as a whole
                if place < 0:
                    break
            else:
                while matched and text[matched] != piece[place]:
                    matched = borders[matched - 1]
            if text[matched] == piece[place]:
                matched += 1
                if matched == len(text):
                    return place + 1
                if matched > len(borders):
                    borders.append(self._border(matched))
            place += 1
        self.matched = matched
        return -1

    def _border(self, size: int) -> int:
        text, borders = self._text, self._borders
        found = borders[size - 2]
        while found and text[found] != text[size - 1]:
            found = borders[found - 1]
        return found + 1 if text[found] == text[size - 1] else 0


class StopCutter:
    """Cuts a text, which arrives in pieces, at the first stop string, without joining the pieces.

    The first stop string is the one that ends first. A piece is held back while a stop string may begin in it.
    """

    __slots__ = ("_held", "_size", "_stops", "stopped")

    def __init__(self, stop: str | list[str] | None) -> None:
        stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
        self._stops = [_StopString(one) for one in stops if one]
        self._held: deque[ContentDelta] = deque()
        self._size = 0  # characters held back
        self.stopped: bool = False

    def feed(self, piece: ContentDelta) -> list[ContentDelta]:
        """Return the pieces that can be sent on."""
        if not self._stops:
            return [piece]
        ends = [(end, -len(stop)) for stop in self._stops if (end := stop.feed(piece.text)) >= 0]
        self._held.append(piece)
        held = self._size
        self._size += len(piece.text)
        if ends:
            self.stopped = True
            end, length = min(ends)
            return self._take(held + end + length, cut=True)
        return self._take(self._size - max(stop.matched for stop in self._stops), cut=False)

    def rest(self) -> list[ContentDelta]:
        """Return the pieces held back, at the end of the text."""
        held, self._held = list(self._held), deque()
        return [] if self.stopped else held

    def _take(self, end: int, *, cut: bool) -> list[ContentDelta]:
        taken: list[ContentDelta] = []
        while self._held and (len(self._held[0].text) <= end or (cut and end)):
            piece = self._held.popleft()
            self._size -= len(piece.text)
            if len(piece.text) > end:
                piece = ContentDelta(piece.text[:end], piece.logprob, piece.top)
            end -= len(piece.text)
            taken.append(piece)
        return taken


class TokenBudget:
    """Cuts an answer at its limit of tokens (``max_completion_tokens``, ``max_tokens``).

    The kit counts: a `ContentDelta` with a log probability is one token, any other text what `count_tokens` says. An
    answer that ends at its limit is whole, so it is cut only by the piece that exceeds it.
    """

    __slots__ = ("_left",)

    def __init__(self, limit: int) -> None:
        self._left = limit

    def fits(self, text: str) -> bool:
        """Count the text if all of it is within the limit. Return whether it is."""
        count = count_tokens(text)
        if count > self._left:
            return False
        self._left -= count
        return True

    def limit(self, piece: Piece) -> tuple[Piece, ...]:
        """Return the part of a piece within the limit, followed by a `Finish` if the piece exceeds it."""
        left = self._left
        if isinstance(piece, UsageReport | Finish):
            return (piece,)
        if isinstance(piece, ContentDelta) and piece.logprob is not None:
            self._left = max(left - 1, 0)
            return (piece,) if left else (Finish("length"),)
        text = piece.arguments if isinstance(piece, ToolCallDelta) else piece.text
        if self.fits(text):
            return (piece,)
        self._left = 0
        kept = "".join(split_tokens(text)[:left])
        if isinstance(piece, ToolCallDelta):
            return replace(piece, arguments=kept), Finish("length")
        return (replace(piece, text=kept), Finish("length")) if kept else (Finish("length"),)


class ChoiceWriter:
    """One choice of an answer: makes the deltas of a stream and the whole message from a handler's pieces."""

    __slots__ = (
        "_budget",
        "_cutter",
        "_logprobs",
        "calls",
        "chances",
        "content",
        "finish",
        "index",
        "reasoning",
        "refusal",
        "usage",
    )

    def __init__(self, index: int, body: dict[str, Any]) -> None:
        stop = body.get("stop")
        self.index: int = index
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.chances: list[dict[str, Any]] = []
        self.usage: UsageReport | None = None
        self.finish: str = ""
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        self._cutter = StopCutter(stop) if stop else None
        self._budget = TokenBudget(limit) if limit else None
        self._logprobs: bool = bool(body.get("logprobs"))

    @property
    def ended(self) -> bool:
        """Whether further pieces of the handler are ignored."""
        return bool(self.finish)

    def passes(self, item: Any) -> bool:
        """Take an item if it is text that needs no processing, as nearly all items are. Return whether it was taken."""
        if type(item) is not str or self._cutter is not None:
            return False
        if self._budget is not None and not self._budget.fits(item):
            return False
        self.content.append(item)
        return True

    def take(self, item: Any) -> bool:
        """Take one item of a handler for the whole message. Return whether the choice has ended."""
        if self.passes(item):
            return False
        for _ in self.add(item):
            pass
        return self.ended

    def add(self, item: Any) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Take one item of a handler and yield deltas, each with the log probabilities of its tokens."""
        for piece in self.pieces(item):
            yield from self.add_piece(piece)

    def pieces(self, item: Any) -> Iterable[Piece]:
        """Return the pieces that one item of a handler stands for, up to the limit of tokens."""
        piece = ContentDelta(item) if type(item) is str else item
        if not isinstance(piece, Piece):
            return pieces_of(item)  # the answer of another server, which applied the limit with its own tokens
        return (piece,) if self._budget is None else self._budget.limit(piece)

    def add_piece(self, piece: Piece) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Take one piece, already cut to the limit of tokens. Yield deltas as `add` does."""
        if self.finish:
            return
        match piece:
            case ContentDelta(text):
                _check_text(text, piece)
                if self._cutter is None:
                    yield self._text(piece)
                    return
                yield from map(self._text, self._cutter.feed(piece))
                if self._cutter.stopped:
                    self.finish = "stop"
            case ReasoningDelta(text):
                _check_text(text, piece)
                self.reasoning.append(text)
                yield {"reasoning_content": text}, []
            case RefusalDelta(text):
                _check_text(text, piece)
                self.refusal.append(text)
                yield {"refusal": text}, []
            case ToolCallDelta(name, arguments):
                _check_text(name, piece)
                _check_text(arguments, piece)
                yield self._call(piece), []
            case UsageReport():
                self.usage = piece
            case Finish(reason):
                _check_text(reason, piece)
                yield from self._held_back()
                self.finish = reason

    def _held_back(self) -> Iterable[tuple[dict[str, Any], list[dict[str, Any]]]]:
        return () if self._cutter is None else map(self._text, self._cutter.rest())

    def _text(self, piece: ContentDelta) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        self.content.append(piece.text)
        chances: list[dict[str, Any]] = []
        if self._logprobs and piece.logprob is not None:
            top = [token_chance(token, logprob) for token, logprob in piece.top]
            chances = [{**token_chance(piece.text, piece.logprob), "top_logprobs": top}]
            self.chances += chances
        return {"content": piece.text}, chances

    def _call(self, piece: ToolCallDelta) -> dict[str, Any]:
        if piece.name or not self.calls:
            id = piece.id or f"call_{random_hex()}"
            self.calls.append({"id": id, "type": piece.kind, "name": piece.name, "arguments": [piece.arguments]})
            return {"tool_calls": [{"index": len(self.calls) - 1, **_call_object(self.calls[-1])}]}
        call = self.calls[-1]
        call["arguments"].append(piece.arguments)
        word = "input" if call["type"] == "custom" else "arguments"
        return {"tool_calls": [{"index": len(self.calls) - 1, call["type"]: {word: piece.arguments}}]}

    def end(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Note that the handler has ended, and yield the deltas held back."""
        yield from self._held_back()
        self.close()

    def close(self) -> None:
        """Note that the handler has ended, for the whole message. Idempotent."""
        for _ in self._held_back():
            pass
        if not self.finish:
            self.finish = "tool_calls" if self.calls else "stop"

    def tokens(self) -> tuple[int, int]:
        """Return the number of tokens of the whole choice, and that of its reasoning."""
        if self.usage is not None:
            return self.usage.completion_tokens, self.usage.reasoning_tokens
        total = count_tokens("".join(self.content))
        reasoning = 0
        if self.reasoning or self.refusal or self.calls:
            reasoning = count_tokens("".join(self.reasoning))
            total += reasoning + count_tokens("".join(self.refusal))
            total += sum(2 + count_tokens("".join(call["arguments"])) for call in self.calls)
        return total, reasoning

    def choice(self) -> dict[str, Any]:
        """Return the whole choice."""
        content: str | None = "".join(self.content)
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": "".join(self.refusal) or None}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["content"] = content or None
            message["tool_calls"] = [_call_object(call) for call in self.calls]
        message["annotations"] = []
        logprobs = {"content": self.chances, "refusal": None} if self.chances else None
        return {"index": self.index, "message": message, "logprobs": logprobs, "finish_reason": self.finish}


def _check_text(text: object, piece: Piece) -> None:
    if not isinstance(text, str):
        raise TypeError(f"a {type(piece).__name__} has {type(text).__name__} in place of a text")


def _call_object(call: dict[str, Any]) -> dict[str, Any]:
    word = "input" if call["type"] == "custom" else "arguments"
    inner = {"name": call["name"], word: "".join(call["arguments"])}
    return {"id": call["id"], "type": call["type"], call["type"]: inner}


class ChatAnswer:
    """The answer to one request: all its choices, whole or as events."""

    def __init__(self, body: dict[str, Any], context: RequestContext) -> None:
        self._body = body
        self._context = context
        self._frame: dict[str, Any] = {
            "id": f"chatcmpl-{random_hex()}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": body["model"],
            "service_tier": "default",
            "system_fingerprint": "fp_openaiasync",
        }
        self.choices: list[ChoiceWriter] = [ChoiceWriter(index, body) for index in range(body.get("n") or 1)]
        self.prompt_tokens: int = count_prompt(body)
        options: dict[str, Any] = body.get("stream_options") or {}
        self._wants_usage = bool(options.get("include_usage"))
        self._head = b""  # of each chunk, to be encoded once
        self._tail = b""

    def run(self, handler: RegisteredHandler) -> Awaitable[None]:
        """Run the handler for all choices. Awaiting the result raises its exceptions."""
        if len(self.choices) == 1:
            return self._fill(handler, self.choices[0])
        return run_together(self._fill(handler, choice) for choice in self.choices)

    def _fill(self, handler: RegisteredHandler, choice: ChoiceWriter) -> Coroutine[Any, Any, None]:
        return for_each_result(handler, ChatRequest(self._body, self._context, choice.index), choice.take)

    async def events(self, handler: RegisteredHandler, on_complete: Callable[[], None]) -> AsyncGenerator[bytes]:
        """Yield the answer as server-sent events; `on_complete` is called before the last one."""
        # Encoding the frame of each chunk anew would cost more than the rest of a streamed piece.
        self._head = b"data: " + msgspec.json.encode(self._frame)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self._wants_usage else b"]}\n\n"
        sources = [self._chunks(handler, choice) for choice in self.choices]
        async with aclosing(sources[0] if len(sources) == 1 else merged(sources)) as chunks:
            async for chunk in chunks:
                yield chunk
        if self._wants_usage:
            yield event_of({**self._frame, "choices": [], "usage": self.usage()})
        on_complete()
        yield DONE

    async def _chunks(self, handler: RegisteredHandler, choice: ChoiceWriter) -> AsyncGenerator[bytes]:
        request = ChatRequest(self._body, self._context, choice.index)
        started = False
        # Fast path: nearly all pieces are plain text that needs no processing, so their chunk is made in one step.
        head = b'%b{"index":%d,"delta":{"content":' % (self._head, choice.index)
        tail = b'},"logprobs":null,"finish_reason":null}' + self._tail
        async with aclosing(open_handler(handler, request).unpaced) as items:
            async for item in items:
                if started and choice.passes(item):
                    yield head + msgspec.json.encode(item) + tail
                    continue
                for delta, chances in choice.add(item):
                    if not started:
                        started = True
                        yield self._role(choice)
                    yield self._chunk(choice.index, delta, chances)
                if choice.ended:
                    break
                await self._context.let_others_run()  # not every item makes a chunk, whose sender does it
        for delta, chances in choice.end():
            if not started:
                started = True
                yield self._role(choice)
            yield self._chunk(choice.index, delta, chances)
        if not started:
            yield self._role(choice)
        yield self._chunk(choice.index, {}, [], choice.finish)

    def _role(self, choice: ChoiceWriter) -> bytes:
        content = None if choice.calls and not choice.content else ""
        return self._chunk(choice.index, {"role": "assistant", "content": content, "refusal": None}, [])

    def _chunk(
        self, index: int, delta: dict[str, Any], chances: list[dict[str, Any]], finish: str | None = None
    ) -> bytes:
        encode = msgspec.json.encode
        logprobs = encode({"content": chances, "refusal": None}) if chances else _NULL
        reason = encode(finish) if finish else _NULL
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            index,
            encode(delta),
            logprobs,
            reason,
            self._tail,
        )

    def usage(self) -> dict[str, Any]:
        """Return the usage of all choices."""
        prompt, cached, completion, reasoning = self.prompt_tokens, 0, 0, 0
        for choice in reversed(self.choices):
            total, reasoned = choice.tokens()
            completion += total
            reasoning += reasoned
            if choice.usage is not None:
                prompt, cached = choice.usage.prompt_tokens, choice.usage.cached_tokens
        return usage_of(prompt, completion, reasoning, cached)

    def completion(self) -> dict[str, Any]:
        """Return the whole answer, once the handler has ended."""
        for choice in self.choices:
            choice.close()
        completion = {**self._frame, "object": "chat.completion", "choices": [one.choice() for one in self.choices]}
        completion["usage"] = self.usage()
        if self._body.get("metadata") is not None or self._body.get("store"):
            completion["metadata"] = self._body.get("metadata") or {}
        return completion


resolve_annotations(__name__)
