"""Find the text nearest to a question, by embeddings."""

import asyncio
from operator import mul

from openaiasync import Client

TEXTS = [
    "Cats sleep most of the day.",
    "The parliament votes on the budget in June.",
    "A kitten naps in the afternoon sun.",
    "Interest rates rose again last month.",
]


async def main() -> None:
    async with Client(model="text-embedding-3-small") as client:
        texts, question = await asyncio.gather(
            client.embedding(TEXTS),
            client.embedding("When do cats sleep?"),
        )
    wanted = question.vectors[0]
    scores = [sum(map(mul, vector, wanted)) for vector in texts.vectors]
    for score, text in sorted(zip(scores, TEXTS, strict=True), reverse=True):
        print(f"{score:6.3f}  {text}")
        # → 0.749  Cats sleep most of the day.
        # → …


asyncio.run(main())
