"""A thousand questions, as many at once as the server allows, each answered or reported as failed."""

import asyncio

from openaiasync import Client


async def main() -> None:
    async with Client(model="gpt-4o-mini") as client:
        rows = client.map(range(1000), lambda number: f"What is {number} * {number}?")
        failed = 0
        async for row in rows:  # as they complete
            if not row.ok:
                failed += 1
            elif row.item == 12:
                print(row.text)  # → 12 * 12 = 144.
        print(f"{rows.stats.ok} answered, {failed} failed, {rows.stats.refused} refused and sent again")
        # → 1000 answered, 0 failed, 0 refused and sent again


asyncio.run(main())
