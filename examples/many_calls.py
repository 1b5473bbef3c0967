"""A hundred questions, at most eight at the server at once, each answered or accounted for."""

import asyncio

from openaiasync import Client, OpenAIError


async def main() -> None:
    async with Client(model="gpt-4o-mini", http_max_in_flight=8, http_deadline=60) as client:

        async def ask(number: int) -> str | OpenAIError:
            try:
                return (await client.chat(f"What is {number} * {number}?")).text
            except OpenAIError as error:
                return error

        answers = await asyncio.gather(*(ask(number) for number in range(100)))
    failed = [answer for answer in answers if isinstance(answer, OpenAIError)]
    print(f"{len(answers) - len(failed)} answered, {len(failed)} failed")
    print(answers[12])


asyncio.run(main())
