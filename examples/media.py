"""Images, speech, transcription and vision, offline: against the built-in server's demo models."""

import asyncio

from openaiasync import Client
from openaiasync.demo import demo_app
from openaiasync.server import serve

MODELS = {
    "image_generate": "demo-image",
    "vision": "demo-chat",
    "text_to_speech": "demo-tts",
    "speech_to_text": "demo-stt",
}


async def main() -> None:
    async with serve(demo_app()) as server, Client(api_base=server.base_url, model=MODELS) as client:
        images = await client.image_generate("a yellow sun and a red house on a blue sky", size="512x512")
        for image in images.data or ():
            await image.save("sun.png")
        answer = await client.vision("sun.png", "What do you see?")
        print(answer.text)
        # → The image is a PNG of 512 by 512 pixels that shows a yellow sun and a red house on a blue sky.

        speech = await client.text_to_speech(answer.text, voice="nova")
        speech.stream_to_file("answer.wav")  # it sounds like a modem
        print((await client.speech_to_text("answer.wav")).text)
        # → The image is a PNG of 512 by 512 pixels that shows a yellow sun and a red house on a blue sky.


asyncio.run(main())
