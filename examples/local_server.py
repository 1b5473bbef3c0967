"""The built-in server and a client in one program: nothing to install, no key, real sockets."""

import asyncio

from openaiasync import Client
from openaiasync.demo import demo_app
from openaiasync.server import serve


async def main() -> None:
    async with serve(demo_app()) as server, Client(api_base=server.base_url, model="demo-chat") as client:
        print(server.base_url)  # → http://127.0.0.1:…/v1
        print((await client.chat("What is 17 * 23?")).text)  # → 17 * 23 = 391.
        print([model.id for model in (await client.models()).data])  # → ['demo-chat', …]


asyncio.run(main())
