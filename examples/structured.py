"""An answer as a value of a type, growing while it is streamed. Needs OPENAI_API_KEY, or OPENAI_BASE_URL."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from openaiasync import Client, PartialObject, StructuredOutputError


@dataclass
class Ingredient:
    name: str
    amount: float
    unit: Literal["g", "ml", "piece"]


@dataclass
class Recipe:
    """A recipe for two people."""

    title: str
    ingredients: list[Ingredient]
    steps: list[str]


async def main() -> None:
    async with Client(model="gpt-4o-mini") as client:
        try:
            async with client.chat.stream_parse("A recipe for pancakes, please.", into=Recipe) as stream:
                async for piece in stream:
                    if isinstance(piece, PartialObject):
                        print(f"\r{len(piece.value.get('steps', []))} steps so far", end="")
                recipe = (await stream.final()).parsed
        except StructuredOutputError as error:
            print(f"{error}\nThe model wrote: {error.text}")
            raise SystemExit(1) from None
    print(f"\n{recipe.title}")
    for one in recipe.ingredients:
        print(f"  {one.amount:g} {one.unit} {one.name}")
    for number, step in enumerate(recipe.steps, 1):
        print(f"{number}. {step}")
        # → 1. recipe
        # → 2. pancakes


asyncio.run(main())
