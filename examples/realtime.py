"""A conversation over a WebSocket, offline: against a server of a dozen lines. Needs the extra [realtime]."""

import asyncio
import json

from openaiasync import AsyncOpenAI, WebSocketConnectionClosedError

try:
    from websockets.asyncio.server import ServerConnection, serve
except ModuleNotFoundError:
    from openaiasync.installation import install_command

    raise SystemExit(f"This example needs websockets: {install_command('realtime')}") from None


async def parrot(ws: ServerConnection) -> None:
    """Repeat each message word by word, and disconnect in the middle of the third answer."""
    said: list[str] = []
    answers = 0
    async for message in ws:
        event = json.loads(message)
        if event["type"] == "conversation.item.create":
            said.append(event["item"]["content"][0]["text"])
        if event["type"] == "response.create":
            answers += 1
            for word in said[-1].split():
                ids = {"event_id": "e", "response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
                await ws.send(json.dumps({"type": "response.output_text.delta", "delta": f"{word} ", **ids}))
                if answers == 3:
                    await ws.close(1012, "restarting")
                    return
            await ws.send(json.dumps({"type": "response.done", "event_id": "e", "response": {"status": "completed"}}))


async def main() -> None:
    async with serve(parrot, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with AsyncOpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1") as client:
            async with client.realtime.connect(model="parrot") as connection:
                try:
                    for text in ("Hello there", "How do you do", "Good bye then"):
                        await connection.conversation.item.create(
                            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
                        )
                        await connection.response.create()
                        async for event in connection:
                            if event.type == "response.output_text.delta":
                                print(event.delta, end="")  # → Hello there How do you do Good
                            elif event.type == "response.done":
                                print()
                                break
                except WebSocketConnectionClosedError as error:
                    print(f"... and gone: {error.close_reason} ({error.close_code})")
                    # → ... and gone: restarting (1012)


asyncio.run(main())
