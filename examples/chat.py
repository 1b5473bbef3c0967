"""One question, its answer, and the metadata of the call. Needs OPENAI_API_KEY, or OPENAI_BASE_URL."""

import asyncio

from openaiasync import Client, OpenAIError


async def main() -> None:
    async with Client(model="gpt-4o-mini", max_retries=3) as client:
        try:
            answer = await client.chat("Why is the sky blue?", max_tokens=200)
        except OpenAIError as error:
            print(f"{error} (at fault: {error.side}; worth another try: {error.retryable})")
            raise SystemExit(1) from None
        print(answer.text)  # → Sunlight holds all colours. …
        print(f"{answer.meta.total:.2f} s, {answer.meta.tries} tries, request {answer.meta.request_id}")
        # → … s, 1 tries, request req_…


asyncio.run(main())
