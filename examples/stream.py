"""An answer word by word, what is left of a broken one, and leaving early."""

import asyncio

from openaiasync import Client, IncompleteStreamError


async def main() -> None:
    async with Client(model="gpt-4o-mini") as client:
        async with client.chat.stream("Tell me a story of two princesses, Judy and Emmy.") as stream:
            try:
                async for piece in stream:
                    print(piece.text, end="", flush=True)
            except IncompleteStreamError as error:
                print(f"\n[the connection broke; {len(error.partial.text)} characters had come]")
                return
        print("\n--")
        async with client.chat.stream("Count to 500.") as stream:
            async for _ in stream:
                if len(stream.text) > 40:
                    break  # leaving the block stops the server's work
        print(stream.text, "…")  # → 1, 2, 3, 4, …


asyncio.run(main())
