"""A conversation: saved turn by turn, resumed, forked. Needs OPENAI_API_KEY, or OPENAI_BASE_URL of another server."""

import asyncio
import tempfile
from pathlib import Path

from openaiasync import Client, OpenAIError


async def main() -> None:
    path = Path(tempfile.mkdtemp()) / "talk.jsonl"
    async with Client(model="gpt-4o-mini") as client:
        session = client.chat.session(system="You tell fanciful stories.", context_limit=16_000, policy="summarise")
        session.save(path)
        async with session.stream("Tell me a story of two princesses, Judy and Emmy.") as stream:
            async for piece in stream:
                print(piece.text, end="", flush=True)  # → Once upon a time, …
        print()
        try:
            print((await session.say("What were their names?", timeout=30)).text)
        except OpenAIError as error:
            print(f"{error}; so far: {error.partial.text!r}")
        session.close()

        session = client.chat.load_session(path, append=True)
        sad, glad = session.fork(), session.fork()
        endings = await asyncio.gather(sad.say("Give it a sad ending."), glad.say("Give it a happy ending."))
        print(*(reply.text for reply in endings), sep="\n---\n")
        print(f"{len(session.messages)} messages in {path.name}, {session.usage.total_tokens} tokens")
        # → 5 messages in talk.jsonl, … tokens
        session.close()


asyncio.run(main())
