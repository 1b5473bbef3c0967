"""Speech and transcription over a real socket and real uploads: what is spoken is heard, exactly."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import struct
import time
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import run
from openaiasync import AsyncOpenAI, BadRequestError, Client, NotFoundError
from openaiasync.server import demo_app, serve
from openaiasync.server.models import hearing
from openaiasync.server.models.hearing import NotHeard, hear
from openaiasync.server.models.speech import DemoSpeech
from openaiasync.server.models.tones import RATE, VOICES
from openaiasync.server.models.wav import WavError, read_wav, wav_head

from .wire import Wire, until

MODELS = {"text_to_speech": "demo-tts", "speech_to_text": "demo-stt"}
TWO = "How are you? I am well, thanks."


def client_of(server: Any) -> Client:
    return Client(api_base=server.base_url, model=MODELS, strict=True)


def spoken(text: str, voice: str = "alloy", speed: float = 1.0) -> array[int]:
    samples = array("h")
    for piece, _ in DemoSpeech().speak(text, voice, speed):
        samples.frombytes(piece)
    return samples


def heard(samples: array[int], rate: int = RATE) -> str:
    return "".join(part.text for part in hear(samples, rate))


def wav(samples: array[int], rate: int = RATE) -> bytes:
    return wav_head(rate, 2 * len(samples)) + samples.tobytes()


class TestRoundTrip:
    """`speech_to_text(text_to_speech(text)).text == text`."""

    @pytest.mark.parametrize(
        "text",
        [
            "hello",
            "Grüße aus Köln! 世界 🎉",
            "\n a  b\t\n",
            "x" * 700,
            "No. Yes.  No? Yes!\n\nEnd",
            "\0",
            "é" * 300,
            ".",
        ],
    )
    def test_texts(self, text: str) -> None:
        """Every text, byte for byte, over a real socket and a real upload."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                assert (await client.speech_to_text(await client.text_to_speech(text))).text == text

        run(main())

    def test_voices_speeds_and_formats(self, tmp_path: Path) -> None:
        """All voices, all speeds, WAV and PCM; as an answer, as bytes, as a path, as an open file, in a tuple."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                for voice in VOICES:
                    speed = 0.25 + VOICES.index(voice) * 3.75 / 12
                    answer = await client.text_to_speech(TWO, voice=voice, speed=speed)
                    assert (await client.speech_to_text(answer)).text == TWO, voice
                raw = await client.text_to_speech(TWO, response_format="pcm")
                assert (raw.content_type, answer.content_type) == ("audio/pcm", "audio/wav")
                assert len(raw.bytes()) + 44 == len((await client.text_to_speech(TWO)).bytes())
                assert (await client.speech_to_text(raw)).text == TWO
                path = tmp_path / "speech.wav"
                answer.stream_to_file(path)
                with path.open("rb") as file:
                    for given_file in (answer.bytes(), path, str(path), file, ("a.wav", answer.bytes())):
                        assert (await client.speech_to_text(given_file)).text == TWO
                assert (await client.speech_to_text(("a.pcm", raw.bytes()))).text == TWO
                translation: Any = await client.audio.translations.create(file=path, model="demo-stt")
                assert translation.text == TWO

        run(main())

    def test_streams(self) -> None:
        """Sound in pieces is the same sound; a transcript in pieces the same text; a bad file raises."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                whole = (await client.text_to_speech(TWO)).bytes()
                async with client.text_to_speech.stream(TWO) as sound:
                    pieces = [piece async for piece in sound]
                assert b"".join(pieces) == whole
                assert len(pieces) > 2
                async with client.speech_to_text.stream(whole) as stream:
                    events = [event async for event in stream]
                assert stream.text == (await stream.final()).text == TWO
                assert [event.type for event in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
                assert len(events) > 6
                assert "".join(getattr(event, "delta", "") for event in events) == TWO
                async with client.speech_to_text.stream(whole, response_format="diarized_json") as stream:
                    kinds = [event.type async for event in stream]
                assert kinds.count("transcript.text.segment") == 2
                with pytest.raises(BadRequestError):
                    async for _ in client.speech_to_text.stream(b"RIFF nothing"):
                        pass

        run(main())

    def test_official_names(self) -> None:
        """The same under the official names; events of speech put together are the sound."""

        async def main() -> None:
            async with serve(demo_app()) as server:
                async with AsyncOpenAI(base_url=server.base_url, api_key="k") as client:
                    create = client.audio.transcriptions.create
                    sound = await client.audio.speech.create(model="demo-tts", voice="nova", input=TWO)
                    assert await create(model="demo-stt", file=sound.content, response_format="text") == TWO + "\n"
                    stream = await create(model="demo-stt", file=sound.content, stream=True)
                    assert [event async for event in stream][-1].text == TWO  # type: ignore[union-attr]
                    coded = await client.audio.speech.create(
                        model="demo-tts", voice="nova", input=TWO, stream_format="sse"
                    )
                    events = [json.loads(line[5:]) for line in coded.iter_lines() if line.startswith("data:")]
                    assert b"".join(base64.b64decode(event.get("audio", "")) for event in events) == sound.content
                    assert events[-1]["type"] == "speech.audio.done"
                    assert events[-1]["usage"]["total_tokens"] > 0

        run(main())


class TestFormats:
    """What transcripts say beside the text."""

    def test_times(self) -> None:
        """Segments are sentences, in order within the sound; words lie within their segments."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                sound = await client.text_to_speech(TWO)
                seconds = (len(sound.bytes()) - 44) / 48_000
                answer: Any = await client.speech_to_text(
                    sound, response_format="verbose_json", timestamp_granularities=["word", "segment"], temperature=0.5
                )
                assert (answer.text, answer.language, answer.duration) == (TWO, "english", pytest.approx(seconds, 0.01))
                assert [segment.text for segment in answer.segments] == ["How are you? ", "I am well, thanks."]
                assert [word.word for word in answer.words] == TWO.split()
                times = [time for word in answer.words for time in (word.start, word.end)]
                assert times == sorted(times)
                first, second = answer.segments
                assert 0 < first.start < answer.words[0].start < answer.words[2].end < first.end < second.start
                assert answer.words[3].start > second.start
                assert second.end < seconds
                assert first.temperature == 0.5
                assert first.avg_logprob < 0 < first.compression_ratio
                bare: Any = await client.speech_to_text(sound, response_format="verbose_json")
                assert (bare.words, len(bare.segments)) == (None, 2)

        run(main())

    def test_subtitles(self) -> None:
        """One cue a sentence, no empty line within, times in the format's own way."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                sound = await client.text_to_speech("One <two>\nthree. Four.", speed=0.25)
                srt = (await client.speech_to_text(sound, response_format="srt")).text
                assert srt.startswith("1\n00:00:00,020 --> 00:00:0")
                assert "\nOne <two> three.\n\n2\n" in srt
                assert srt.endswith("\nFour.\n")
                vtt = (await client.speech_to_text(sound, response_format="vtt")).text
                assert vtt.startswith("WEBVTT\n\n00:00:00.020 --> 00:00:0")
                assert "\nOne &lt;two&gt; three.\n\n00:00:0" in vtt

        run(main())

    def test_speakers(self) -> None:
        """Two voices in one sound are two speakers; a sample of a voice gives it a name."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                both = wav(spoken("Hello!", "echo") + array("h", bytes(9000)) + spoken("Good day. Bye.", "nova"))
                answer: Any = await client.speech_to_text(both, response_format="diarized_json")
                assert answer.text == "Hello! Good day. Bye."
                assert [segment.speaker for segment in answer.segments] == ["A", "B", "B"]
                sample = base64.b64encode(wav(spoken("This is me", "nova"))).decode()
                named: Any = await client.speech_to_text(
                    both,
                    response_format="diarized_json",
                    known_speaker_names=["Ada"],
                    known_speaker_references=[f"data:audio/wav;base64,{sample}"],
                )
                assert [segment.speaker for segment in named.segments] == ["A", "Ada", "Ada"]

        run(main())

    def test_chances(self) -> None:
        """`include=["logprobs"]`: the tokens make the text, and their chances are how clear the sound is."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                noise = random.Random(1)
                clear = spoken(TWO)
                rough = array("h", [sample + round(noise.gauss(0, 3000)) for sample in clear])
                chances: list[float] = []
                for samples in (clear, rough):
                    answer: Any = await client.speech_to_text(wav(samples), include=["logprobs"])
                    assert "".join(chance.token for chance in answer.logprobs) == TWO
                    chances.append(answer.logprobs[0].logprob)
                assert chances[1] < chances[0] < 0

        run(main())


class TestHearing:
    """The decoder on its own."""

    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60), st.sampled_from(VOICES),
           st.floats(0.25, 4))  # fmt: skip
    @settings(max_examples=25)
    def test_any_text(self, text: str, voice: str, speed: float) -> None:
        """Any text in any voice at any speed."""
        parts = hear(spoken(text, voice, speed), RATE)
        assert "".join(part.text for part in parts) == text
        assert {part.voice for part in parts} == {voice}

    @pytest.mark.parametrize(("gain", "noise"), [(0.003, 0), (2.5, 0), (1, 1500), (1, 4000), (0.1, 300)])
    def test_noise_and_volume(self, gain: float, noise: float) -> None:
        """Quiet, clipped and noisy sound, with more of it around, still reads."""
        chance = random.Random(2)
        lead = array("h", [chance.randint(-5, 5) for _ in range(17_777)])
        samples = lead + spoken(TWO, "fable", 2.0) + lead
        heard_as = array(
            "h", [max(-32768, min(32767, round(sample * gain + chance.gauss(0, noise)))) for sample in samples]
        )
        assert heard(heard_as) == TWO

    @pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
    def test_other_rates(self, rate: int) -> None:
        """Sound that was resampled."""
        samples = spoken(TWO)
        other = array("h", [samples[number * RATE // rate] for number in range(len(samples) * rate // RATE)])
        assert heard(other, rate) == TWO

    def test_damage_is_told(self) -> None:
        """A frame that is cut off or overlaid is no text, but an error that says where."""
        samples = spoken(TWO)
        with pytest.raises(NotHeard, match="cut off"):
            hear(samples[:-6000], RATE)
        samples[-12_000:-8000] = array("h", bytes(8000))
        with pytest.raises(NotHeard, match=r"at \d+\.\d\d s is damaged"):
            hear(samples, RATE)

    def test_other_sound_is_refused(self) -> None:
        """Silence, noise, a tone and nothing are no speech; much noise is given up early."""
        chance = random.Random(3)
        noise = array("h", [chance.randint(-9000, 9000) for _ in range(RATE)])
        pilot = spoken("x")[480:1920]
        for sound in (array("h"), array("h", bytes(RATE)), noise, pilot * 10, array("h", [1, 2, 3])):
            with pytest.raises(NotHeard, match="no speech"):
                hear(sound, RATE)
        with pytest.raises(NotHeard, match="samples a second"):
            hear(spoken("x"), 8000)
        for much in (noise * 70, pilot * 200):
            with pytest.raises(NotHeard, match="Too much"):
                hear(much, RATE)

    def test_many_short_sentences(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pilots of sentences are no noise, however many there are."""
        monkeypatch.setattr(hearing, "_MAX_NOISE", 1)
        assert len(hear(spoken("A. " * 50, speed=4), RATE)) == 50

    def test_fast_enough(self) -> None:
        """A hundred characters in less than a second of CPU time."""
        samples = spoken("0123456789" * 10)
        begin = time.thread_time()
        assert heard(samples) == "0123456789" * 10
        assert time.thread_time() - begin < 1

    def test_wav_files(self) -> None:
        """Several channels, further chunks and unknown sizes are read; other codings, cuts and nonsense are not."""
        mono = spoken("hi")
        stereo = array("h", [sample for one in mono for sample in (one, -one)])
        form = struct.pack("<HHIIHH", 1, 2, RATE, RATE * 4, 4, 16)
        chunks = b"LIST\x03\0\0\0abc\0fmt \x10\0\0\0" + form + b"data" + struct.pack("<I", 2 * len(stereo))
        assert read_wav(b"RIFF\0\0\0\0WAVE" + chunks + stereo.tobytes()).samples == mono
        streamed = wav_head(RATE, 0xFFFFFFFF - 36)[:40] + b"\xff\xff\xff\xff"
        assert read_wav(streamed + mono.tobytes()).samples == mono
        good = wav(mono)
        for bad in (
            b"",
            b"ID3",
            good[:30],
            good[:-2],
            good[:36],
            good[:20] + b"\3" + good[21:],
            good[:22] + b"\0\0" + good[24:],
        ):
            with pytest.raises(WavError):
                read_wav(bad)


@pytest.mark.parametrize(
    ("params", "param", "code"),
    [
        ({"input": ""}, "input", "invalid_value"),
        ({"input": "x" * 4097}, "input", "string_above_max_length"),
        ({"input": "🎉" * 4096, "speed": 0.5}, "input", "string_above_max_length"),
        ({"voice": "mine"}, "voice", "invalid_value"),
        ({"voice": {"id": "mine"}}, "voice", "invalid_value"),
        ({"voice": {}}, "voice.id", "invalid_type"),
        ({"response_format": "mp3"}, "response_format", "invalid_value"),
        ({"speed": 5}, "speed", "invalid_value"),
        ({"extra_body": {"pitch": 1}}, "pitch", "unknown_parameter"),
        ({"model": "demo-stt"}, "model", "model_not_supported"),
    ],
)
def test_refused_speech(params: dict[str, Any], param: str, code: str) -> None:
    """Each error object names the parameter."""

    async def main() -> None:
        async with serve(demo_app()) as server, client_of(server) as client:
            whole: Any = {"input": "hello", **params}
            with pytest.raises((BadRequestError, NotFoundError)) as caught:
                await client.text_to_speech(whole)
            assert (caught.value.param, caught.value.code) == (param, code)

    run(main())


HI = wav(spoken("hi"))


@pytest.mark.parametrize(
    ("params", "param", "code"),
    [
        ({"file": b"hello"}, "file", "invalid_audio"),
        ({"file": b"ID3 an mp3"}, "file", "invalid_audio"),
        ({"file": HI[:-4000]}, "file", "invalid_audio"),
        ({"file": wav(array("h", bytes(48_000)))}, "file", "invalid_audio"),
        ({"file": wav(array("h", bytes(600_000)), 499)}, "file", "audio_too_long"),
        ({"response_format": "mp3"}, "response_format", "invalid_value"),
        ({"temperature": 2}, "temperature", "invalid_value"),
        ({"language": "English!"}, "language", "invalid_value"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities", "invalid_value"),
        ({"include": ["logprobs"], "response_format": "text"}, "include", "invalid_value"),
        ({"known_speaker_names": ["Ada"]}, "known_speaker_names", "invalid_value"),
        (
            {"known_speaker_names": ["Ada"], "known_speaker_references": ["data:audio/wav;base64,!"]},
            "known_speaker_references[0]",
            "invalid_value",
        ),
        ({"model": "demo-tts"}, "model", "model_not_supported"),
        ({"extra_body": {"more": 1}}, "more", "unknown_parameter"),
    ],
)
def test_refused_transcriptions(params: dict[str, Any], param: str, code: str) -> None:
    """Each error object names the parameter, and says what is wrong with the sound."""

    async def main() -> None:
        async with serve(demo_app()) as server, client_of(server) as client:
            whole: Any = {"file": HI, **params}
            with pytest.raises((BadRequestError, NotFoundError)) as caught:
                await client.speech_to_text(whole)
            assert (caught.value.param, caught.value.code) == (param, code)

    run(main())


def test_stream_of_subtitles_is_refused() -> None:
    async def main() -> None:
        async with serve(demo_app()) as server, client_of(server) as client:
            with pytest.raises(BadRequestError) as caught:
                async with client.speech_to_text.stream(HI, response_format="srt"):
                    pass
            assert caught.value.param == "stream"

    run(main())


def test_long_texts() -> None:
    """The longest text goes there and back while other calls are answered."""
    text = ("All work and no play makes Jack a dull boy. " * 100)[:4096]

    async def main() -> None:
        async with serve(demo_app()) as server, client_of(server) as client, Wire(server) as wire:
            sound = await client.text_to_speech(text)
            stream = client.speech_to_text.stream(sound)
            async with stream:
                assert (await wire.call("GET", "/health")).status == 200
                assert (await stream.final()).text == text

    run(main(), timeout=120)


def test_client_that_leaves() -> None:
    """A cancelled upload or download leaves nothing behind, and the server answers others."""

    async def main() -> None:
        async with serve(demo_app(token_delay=0.5)) as server, client_of(server) as client:
            for call in (client.text_to_speech("one two three"), client.speech_to_text(HI)):
                task = asyncio.ensure_future(call)
                await until(lambda: server.in_flight == 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await until(lambda: server.in_flight == 0)
            assert (await client.models()).data

    run(main())


def test_hour_long_sound_is_refused() -> None:
    """An hour of sound is more than a body may have: 413, without reading it to its end."""

    async def main() -> None:
        async with serve(demo_app()) as server, Wire(server) as wire:
            size = 3600 * RATE * 2
            head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
            await wire.send(head.encode())
            assert (await wire.answer("POST")).status == 413

    run(main())


def test_pauses() -> None:
    """`token_delay` paces speech and transcripts like text."""

    async def main() -> None:
        async with serve(demo_app(token_delay=0.03)) as server, client_of(server) as client:
            begin = asyncio.get_running_loop().time()
            sound = await client.text_to_speech("one two three four five")
            spoken_after = asyncio.get_running_loop().time() - begin
            assert spoken_after >= 0.13
            await client.speech_to_text(sound)
            assert asyncio.get_running_loop().time() - begin - spoken_after >= 0.13

    run(main())
