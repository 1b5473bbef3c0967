"""`text_to_speech` and `speech_to_text`: what is sent, what comes back, whatever the format and the kind of file."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from forms import parts_of
from openaiasync import APIError, APIResponseValidationError, AsyncOpenAI, Client
from openaiasync.engine.binary import BinaryAnswer
from openaiasync.methods.audio import AudioAnswer, AudioStream
from openaiasync.types.audio import Transcription, TranscriptionDiarized, TranscriptionVerbose
from scripted import Script, Scripted, Seen, answer, events, json_answer, scripted

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(200))
SPOKEN = answer(WAV, content_type="audio/wav")
MODELS = {"text_to_speech": "tts", "speech_to_text": "stt"}
SRT = "1\n00:00:00,000 --> 00:00:01,000\nHello.\n\n"


def always(raw: bytes) -> Script:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return script


def with_script(script: Script | bytes, act: Any, **options: Any) -> Any:
    """The result of `act(client, server)` against a server with this script."""

    async def main() -> Any:
        async with scripted(always(script) if isinstance(script, bytes) else script) as server:
            async with Client(api_base=server.url, **{"model": MODELS, "max_retries": 0, **options}) as client:
                return await act(client, server)

    return run(main())


def form_of(seen: Seen) -> dict[str, Any]:
    return {part.name: part for part in parts_of(seen.headers["content-type"], seen.body)}


class TestTextToSpeech:
    """Words as sound."""

    @pytest.mark.parametrize(
        ("args", "params", "sent"),
        [
            (("hi",), {}, {"voice": "alloy"}),
            ((), {"input": "hi", "voice": "nova"}, {"voice": "nova"}),
            (({"input": "hi", "voice": "nova", "model": "other"},), {"speed": 2}, {"voice": "nova", "speed": 2}),
            (({"input": "hi"},), {"voice": {"id": "v"}}, {"voice": {"id": "v"}}),
        ],
    )
    @pytest.mark.parametrize("streamed", [False, True])
    def test_what_is_sent(self, args: Any, params: Any, sent: Any, streamed: bool) -> None:
        """The text as first positional, keyword or in a whole request; a voice and the default model filled in."""

        async def act(client: Client, server: Scripted) -> tuple[bytes, Seen]:
            if streamed:
                async with client.text_to_speech.stream(*args, **params) as stream:
                    assert isinstance(stream, AudioStream)
                    sound = b"".join([piece async for piece in stream])
            else:
                sound = (await client.text_to_speech(*args, **params)).bytes()
            return sound, server.seen[0]

        sound, seen = with_script(SPOKEN, act)
        assert sound == WAV
        assert (seen.method, seen.target) == ("POST", "/v1/audio/speech")
        model = args[0].get("model", "tts") if args and isinstance(args[0], dict) else "tts"
        assert seen.json() == {"input": "hi", "model": model, **sent}

    def test_the_answer(self, tmp_path: Path) -> None:
        """It has the bytes and their type, knows its call, and can be written to a file."""

        async def act(client: Client, server: Scripted) -> AudioAnswer:
            return await client.text_to_speech("hi", response_format="wav")

        sound = with_script(SPOKEN, act)
        assert isinstance(sound, AudioAnswer)
        sound.stream_to_file(tmp_path / "a.wav")
        assert (tmp_path / "a.wav").read_bytes() == WAV
        assert (sound.bytes(), sound.content_type, sound.meta.status) == (WAV, "audio/wav", 200)
        assert repr(sound) == f"<AudioAnswer of {len(WAV)} bytes, audio/wav>"

    def test_the_official_name_answers_what_it_does_there(self) -> None:
        """`audio.speech.create` requires a voice and answers a plain binary answer."""

        async def act(client: Client, server: Scripted) -> None:
            official = AsyncOpenAI(base_url=server.url, api_key="k")
            got = await official.audio.speech.create(input="hi", model="m", voice="alloy")
            assert type(got) is BinaryAnswer
            assert got.read() == WAV
            with pytest.raises(TypeError, match="voice"):
                await official.audio.speech.create(input="hi", model="m")  # type: ignore[call-arg]
            await official.close()

        with_script(SPOKEN, act)

    def test_mistakes(self) -> None:
        """Missing, unknown and contradictory parameters are errors before anything is sent."""

        async def act(client: Client, server: Scripted) -> None:
            method: Any = client.text_to_speech
            for params, kind, match in (
                ({}, TypeError, "'input'"),
                ({"input": "x", "stream": True}, TypeError, r"text_to_speech\.stream"),
                ({"input": "x", "speeed": 1}, TypeError, "did you mean 'speed'"),
                ({"input": "x", "stream_format": "sse"}, ValueError, r"audio\.speech\.create"),
            ):
                with pytest.raises(kind, match=match):
                    await method(**params)
                if "stream" not in params:
                    with pytest.raises(kind, match=match):
                        method.stream(**params)
            with pytest.raises(TypeError, match="model"):
                await client.with_options(model={"chat": "m"}).text_to_speech("x")
            assert not server.seen

        with_script(SPOKEN, act)

    def test_what_is_no_sound_is_refused(self) -> None:
        """An error in the place of sound raises."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(APIError, match="no voice"):
                await client.text_to_speech("x")
            with pytest.raises(APIError, match="no voice"):
                await anext(client.text_to_speech.stream("x"))

        with_script(json_answer({"error": "no voice"}), act)

    def test_raw_and_streamed_views_go_through(self) -> None:
        """`with_raw_response` answers what it answers for every method."""

        async def act(client: Client, server: Scripted) -> None:
            raw = await client.audio.speech.with_raw_response.create(input="x", voice="alloy")  # type: ignore[misc]
            assert (raw.status_code, raw.content) == (200, WAV)
            assert raw.parse().content == WAV

        with_script(SPOKEN, act)


class TestFiles:
    """What `speech_to_text` takes."""

    def sent(self, file: Any) -> tuple[str | None, str | None, bytes]:
        async def act(client: Client, server: Scripted) -> Seen:
            assert (await client.speech_to_text(file)).text == "hello"
            return server.seen[0]

        seen = with_script(json_answer({"text": "hello"}), act)
        assert (seen.method, seen.target) == ("POST", "/v1/audio/transcriptions")
        form = form_of(seen)
        assert form["model"].content == b"stt"
        return form["file"].file_name, form["file"].media_type, form["file"].content

    def test_paths(self, tmp_path: Path) -> None:
        """A path as text or as a path object: the file under its own name."""
        path = tmp_path / "talk.mp3"
        path.write_bytes(b"ID3sound")
        for file in (path, str(path)):
            assert self.sent(file) == ("talk.mp3", "audio/mpeg", b"ID3sound")

    def test_bytes_are_named_by_what_they_are(self) -> None:
        """Servers tell formats by names: bytes get one that fits, if they are known."""
        assert self.sent(WAV)[:2] == ("upload.wav", "audio/wav")
        assert self.sent(bytearray(b"fLaC0000"))[:2] == ("upload.flac", "audio/flac")
        assert self.sent(memoryview(b"????"))[:2] == ("upload", "application/octet-stream")

    def test_files_and_tuples(self, tmp_path: Path) -> None:
        """Open files and tuples are sent as everywhere."""
        assert self.sent(io.BytesIO(b"x"))[0] == "upload"
        assert self.sent(("a.ogg", b"x", "audio/ogg")) == ("a.ogg", "audio/ogg", b"x")
        (tmp_path / "b.wav").write_bytes(b"x")
        with (tmp_path / "b.wav").open("rb") as file:
            assert self.sent(file)[0] == "b.wav"

    def test_a_spoken_answer(self) -> None:
        """What `text_to_speech` answered goes straight in, here and under the official name."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            spoken = seen.target.endswith("speech")
            writer.write(SPOKEN if spoken else json_answer({"text": "hello"}))

        async def act(client: Client, server: Scripted) -> None:
            sound = await client.text_to_speech("hello")
            assert (await client.speech_to_text(sound)).text == "hello"
            await client.audio.transcriptions.create(file=sound, model="m")  # type: ignore[typeddict-item]
            for seen in server.seen[1:]:
                part = form_of(seen)["file"]
                assert (part.file_name, part.media_type) == ("upload.wav", "audio/wav")
                assert WAV in seen.body

        with_script(script, act)

    @pytest.mark.parametrize("file", ["", 3, "no/such/file.wav", Path("no/such/file.wav")])
    def test_what_is_none_is_refused(self, file: Any) -> None:
        """No file, a missing one, an empty path: errors before anything is sent."""
        kinds = {"": ValueError, 3: TypeError}

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(kinds.get(file, FileNotFoundError)):
                await client.speech_to_text(file)
            with pytest.raises(kinds.get(file, FileNotFoundError)):
                await client.speech_to_text.stream(file).final()
            assert not server.seen

        with_script(json_answer({"text": ""}), act)


class TestSpeechToText:
    """Formats and their answers."""

    @pytest.mark.parametrize(
        ("wanted", "raw", "kind", "text"),
        [
            (None, json_answer({"text": "Hello."}), Transcription, "Hello."),
            ("json", json_answer({"text": "", "usage": {"type": "duration", "seconds": 1}}), Transcription, ""),
            ("text", answer(b"Hello.\n", content_type="text/plain"), Transcription, "Hello."),
            ("text", answer("é\n\n".encode(), content_type="text/html"), Transcription, "é\n"),
            ("text", json_answer({"text": "Hello."}), Transcription, "Hello."),
            ("srt", answer(SRT.encode(), content_type="text/plain"), Transcription, SRT),
            ("vtt", answer(b"WEBVTT\n\n", content_type="text/vtt"), Transcription, "WEBVTT\n\n"),
        ],
    )
    def test_every_format_has_text(self, wanted: str | None, raw: bytes, kind: type, text: str) -> None:
        """Whatever comes is an answer with `.text`, and knows its call."""

        async def act(client: Client, server: Scripted) -> Any:
            params: dict[str, Any] = {} if wanted is None else {"response_format": wanted}
            return await client.speech_to_text(WAV, **params), server.seen[0]

        got, seen = with_script(raw, act)
        assert type(got) is kind
        assert got.text == text
        assert got.meta.status == 200
        assert form_of(seen).get("response_format") == (None if wanted is None else form_of(seen)["response_format"])
        if wanted is not None:
            assert form_of(seen)["response_format"].content.decode() == wanted

    def test_verbose_and_diarized(self) -> None:
        """The format asked for decides the type, though the same object would pass for both."""
        both = {
            "task": "transcribe",
            "language": "english",
            "duration": 1.0,
            "text": "Hello.",
            "segments": [],
        }

        async def act(client: Client, server: Scripted) -> None:
            verbose = await client.speech_to_text(WAV, response_format="verbose_json")
            assert isinstance(verbose, TranscriptionVerbose)
            assert (verbose.text, verbose.language, verbose.segments) == ("Hello.", "english", [])
            diarized = await client.speech_to_text(WAV, response_format="diarized_json")
            assert isinstance(diarized, TranscriptionDiarized)
            assert (diarized.text, diarized.duration) == ("Hello.", 1.0)
            plain = await client.speech_to_text(WAV)
            assert isinstance(plain, Transcription)
            assert plain.extra["language"] == "english"

        with_script(json_answer(both), act)

    def test_the_official_name_answers_text_for_text(self) -> None:
        """`audio.transcriptions.create` and `audio.translations.create` answer `str` for text, srt and vtt."""

        async def act(client: Client, server: Scripted) -> None:
            audio = client.audio
            for wanted in ("text", "srt", "vtt"):
                assert await audio.transcriptions.create(file=WAV, model="m", response_format=wanted) == SRT
                assert await audio.translations.create(file=WAV, model="m", response_format=wanted) == SRT

        with_script(answer(SRT.encode(), content_type="text/plain"), act)

    def test_an_error_in_the_place_of_text_raises(self) -> None:
        """Text may look like anything but an error object."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(APIError, match="bad sound"):
                await client.speech_to_text(WAV, response_format="text")
            with pytest.raises(APIError, match="bad sound"):
                await client.audio.transcriptions.create(file=WAV, model="m", response_format="srt")
            with pytest.raises(APIError, match="bad sound"):
                await client.speech_to_text(WAV)

        with_script(json_answer({"error": {"message": "bad sound"}}), act)

    def test_text_where_an_object_was_asked_for_raises(self) -> None:
        """Never a string in an object's place."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(APIResponseValidationError):
                await client.speech_to_text(WAV)

        with_script(answer(b"Hello.", content_type="text/plain"), act)

    def test_a_whole_request_as_a_dict(self, tmp_path: Path) -> None:
        """One dict, as in a batch; keywords win; a path in it may be text."""
        (tmp_path / "a.wav").write_bytes(WAV)

        async def act(client: Client, server: Scripted) -> Seen:
            request: Any = {"file": str(tmp_path / "a.wav"), "model": "other", "language": "de"}
            await client.speech_to_text(request, language="en", timestamp_granularities=["word"])
            return server.seen[0]

        form = form_of(with_script(json_answer({"text": ""}), act))
        assert {name: part.content for name, part in form.items() if name != "file"} == {
            "model": b"other",
            "language": b"en",
            "timestamp_granularities[]": b"word",
        }

    def test_mistakes(self) -> None:
        """Missing, unknown, `stream=True`: errors before anything is sent."""

        async def act(client: Client, server: Scripted) -> None:
            method: Any = client.speech_to_text
            for params, match in (
                ({}, "'file'"),
                ({"file": WAV, "stream": True}, r"speech_to_text\.stream"),
                ({"file": WAV, "langage": "en"}, "did you mean 'language'"),
            ):
                with pytest.raises(TypeError, match=match):
                    await method(**params)
            assert not server.seen

        with_script(json_answer({"text": ""}), act)


class TestStream:
    """A transcript as it is made."""

    EVENTS = (
        {"type": "transcript.text.delta", "delta": "Hel"},
        {"type": "transcript.text.segment", "id": "s", "speaker": "A", "start": 0, "end": 1, "text": "Hello."},
        {"type": "transcript.text.delta", "delta": "lo."},
        {
            "type": "transcript.text.done",
            "text": "Hello.",
            "usage": {"type": "tokens", "input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        },
    )

    def test_events_and_sums(self) -> None:
        """Typed events, the text so far, and the whole answer with its usage."""

        async def act(client: Client, server: Scripted) -> None:
            types, texts = [], []
            async with client.speech_to_text.stream(WAV) as stream:
                async for one in stream:
                    types.append(one.type)
                    texts.append(stream.text)
            assert types == [one["type"] for one in self.EVENTS]
            assert texts == ["Hel", "Hel", "Hello.", "Hello."]
            whole = await stream.final()
            assert type(whole) is Transcription
            assert (whole.text, whole.usage.total_tokens) == ("Hello.", 3)  # type: ignore[union-attr]
            assert whole.meta.status == 200
            assert form_of(server.seen[0])["stream"].content == b"true"

        with_script(events(self.EVENTS, done=False), act)

    def test_a_transcript_that_breaks_off_raises(self) -> None:
        """Without its last event a transcript is incomplete; the received part is kept."""

        async def act(client: Client, server: Scripted) -> None:
            stream = client.speech_to_text.stream(WAV)
            with pytest.raises(APIError) as caught:
                await stream.final()
            assert caught.value.partial.text == "Hello."  # type: ignore[attr-defined]
            assert stream.partial.text == stream.text == "Hello."

        with_script(events(self.EVENTS[:3], done=False), act)

    def test_a_server_that_does_not_stream(self) -> None:
        """A whole answer where events were asked for is the final answer."""

        async def act(client: Client, server: Scripted) -> None:
            assert (await client.speech_to_text.stream(WAV).final()).text == "Hello."

        with_script(json_answer({"text": "Hello."}), act)

    def test_an_unknown_event_changes_nothing(self) -> None:
        """A kind of event that this library does not know is passed on and kept out of the sum."""
        odd = {"type": "transcript.mood", "mood": "calm"}

        async def act(client: Client, server: Scripted) -> None:
            stream = client.speech_to_text.stream(WAV)
            seen = [one async for one in stream]
            assert seen[0].extra["mood"] == "calm"
            assert (await stream.final()).text == "Hello."

        with_script(events([odd, *self.EVENTS], done=False), act)
