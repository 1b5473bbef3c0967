"""A model that looks things up and acts by calling typed functions. Needs OPENAI_API_KEY, or OPENAI_BASE_URL."""

import asyncio
from datetime import date
from typing import Literal

from openaiasync import Client, TextPiece, ToolCall, ToolFinished, ToolStarted

STOCK = {"apples": 12, "pears": 0}


async def stock_level(fruit: Literal["apples", "pears"]) -> int:
    """Tell how many pieces of a fruit are in stock."""
    await asyncio.sleep(0.1)  # a database
    return STOCK[fruit]


def order(fruit: Literal["apples", "pears"], pieces: int, by: date | None = None) -> str:
    """Order fruit.

    Args:
        fruit: What to order.
        pieces: How many, at most 100.
        by: The day on which they are needed.
    """
    if not 0 < pieces <= 100:
        raise ValueError(f"{pieces} pieces cannot be ordered, only 1 to 100")  # the model is told
    STOCK[fruit] += pieces
    return f"ordered {pieces} {fruit} for {by or 'any day'}"


async def permit(call: ToolCall) -> bool:
    """Ask before money is spent; here the answer is always yes."""
    return call.name in ("stock_level", "order")


async def main() -> None:
    async with Client(model="gpt-4o-mini") as client:
        question = "What is the stock level of pears?"
        async with client.chat.stream_tools(question, tools=[stock_level, order], permit=permit) as stream:
            async for piece in stream:
                if isinstance(piece, ToolStarted):
                    print(f"→ {piece.call.name}({piece.call.arguments})")  # → → stock_level({"fruit": "pears"})
                elif isinstance(piece, ToolFinished):
                    print(f"← {piece.result.content}")  # → ← 0
                elif isinstance(piece, TextPiece):
                    print(piece.text, end="", flush=True)
            reply = await stream.final()
        print(f"\n{len(reply.answers)} answers, {len(reply.tool_calls)} calls, {len(reply.messages)} messages")


asyncio.run(main())
