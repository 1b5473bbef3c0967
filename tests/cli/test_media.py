"""`image`, `speak`, `transcribe` and `responses`: what is sent, what is written where, and what cannot work."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openaiasync.core.model.media_types import audio_type, image_type
from openaiasync.server import ServerThread

from .command import COMMAND, Answer, call, environment, inside, one_line, refused, spied
from .test_chat_options import PNG

pytestmark = pytest.mark.commands


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def pictures(*data: bytes) -> Answer:
    items = [{"b64_json": base64.b64encode(one).decode(), "revised_prompt": "better"} for one in data]
    return 200, json.dumps({"created": 1, "data": items}).encode()


# ---------------------------------------------------------------- image


def test_pictures_are_saved(server: ServerThread, here: Path) -> None:
    """Each in a file with the next free number and the ending of its kind; the names are on stdout."""
    (here / "image-1.png").write_bytes(b"mine")
    done = inside("image", "a red circle", "-n", "2", "--base-url", server.base_url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "image-2.png\nimage-3.png\n"
    assert "Using demo-image" in done.stderr
    assert (here / "image-1.png").read_bytes() == b"mine"
    assert image_type((here / "image-3.png").read_bytes()) == "image/png"


def test_a_picture_in_a_named_file(here: Path) -> None:
    """`-o` names it, and replaces an existing file; several get numbers; parameters go along, typed."""
    jpeg = b"\xff\xd8\xff\xe0" + bytes(20)
    with spied(lambda path, body: pictures(*[jpeg] * (body.get("n") or 1))) as (server, spy):
        where = ("-m", "m", "--base-url", server.base_url)
        (here / "fox.jpg").write_bytes(b"old")
        more = ("--size", "256x256", "--quality", "low", "--option", "output_compression", "50")
        assert inside("image", "a fox", "-o", "fox.jpg", *more, *where).stdout == "fox.jpg\n"
        assert inside("image", "a fox", "-o", "fox.jpg", "-n", "2", *where).stdout == "fox-1.jpg\nfox-2.jpg\n"
        (here / "folder").mkdir()
        assert inside("image", "-o", "folder", *where, stdin=b"a fox").stdout == f"folder{os.sep}image-1.jpeg\n"
        done = inside("image", "a fox", "--json", *where)
    assert (here / "fox.jpg").read_bytes() == (here / "fox-2.jpg").read_bytes() == jpeg
    assert json.loads(done.stdout) == [{"file": "image-1.jpeg", "revised_prompt": "better"}]
    sent = {"prompt": "a fox", "model": "m", "size": "256x256", "quality": "low", "output_compression": 50}
    assert spy.bodies("/images/generations")[0] == sent
    assert spy.bodies("/images/generations")[2]["prompt"] == "a fox"


def test_a_picture_of_another_type_than_its_file(here: Path) -> None:
    """The file keeps the given name; a warning says what type it has."""
    with spied(lambda path, body: pictures(PNG)) as (server, _):
        done = inside("image", "x", "-m", "p", "-o", "red.jpg", "--base-url", server.base_url)
        right = inside("image", "x", "-m", "p", "-o", "red.png", "--base-url", server.base_url)
    assert (done.returncode, done.stdout) == (0, "red.jpg\n")
    assert done.stderr == "Warning: red.jpg is png, not jpg: the server chose the format.\n"
    assert (here / "red.jpg").read_bytes() == PNG
    assert right.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [("speak", "one", "-m", "demo-tts"), ("image", "a dot", "-m", "demo-image"), ("transcribe", "in.wav")],
    ids=lambda arguments: arguments[0],
)
def test_a_full_disk_names_the_file(arguments: tuple[str, ...], server: ServerThread, here: Path) -> None:
    """One line says which file could not be written, and why."""
    inside("speak", "one", "-m", "demo-tts", "-o", "in.wav", "--base-url", server.base_url)
    done = inside(*arguments, "-o", "/dev/full", "--base-url", server.base_url)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "openaiasync: cannot write /dev/full: No space left on device"


def test_a_picture_is_changed(server: ServerThread, here: Path) -> None:
    """`-i` sends pictures to change: files, or the one on stdin; the result goes to a pipe with `-o -`."""
    assert inside("image", "a red circle", "-o", "a.png", "-m", "demo-image", "--base-url", server.base_url)
    first = (here / "a.png").read_bytes()
    where = ("-m", "demo-image", "--base-url", server.base_url)
    assert inside("image", "make it blue", "-i", "a.png", "-o", "b.png", *where).returncode == 0
    assert (here / "b.png").read_bytes() != first
    done = call("image", "make it blue", "-i", "-", "-o", "c.png", *where, stdin=first)
    assert done.returncode == 0, done.stderr
    assert (here / "c.png").read_bytes() == (here / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["image"], "the description is empty", 2),
        (["image", "x", "-i", "none.png"], "cannot read none.png", 2),
        (["image", "x", "-i", "https://example.org/a.png"], "must be a file", 2),
        (["image", "x", "--mask", "a.png"], "name the picture with -i", 2),
        (["image", "x", "-o", "-", "-n", "2"], "one picture", 2),
        (["image", "x", "-o", "none/a.png"], "cannot write none/a.png: there is no folder none", 2),
        (["image", "x", "--option", "n", "two"], "use --number", 2),
        (["image", "x", "--option", "output_compression", "much"], "takes an integer", 2),
        (["speak"], "the text is empty", 2),
        (["speak", "x", "--speed", "0"], "--speed", 2),
        (["speak", "x", "--format", "ogg"], "--format", 2),
        (["speak", "x", "--option", "input", "y"], "set by the command", 2),
        (["transcribe", "none.wav"], "cannot read none.wav: No such file", 2),
        (["speak", "x", "-o", "none/a.mp3"], "cannot write none/a.mp3: No such file", 2),
        (["image", "x", "-o", "size", "5x5", "--out", "a.png"], "set with --option size 5x5", 2),
        (["image", "x", "-o", "size", "5x5"], "-o is the file in image", 2),
        (["transcribe", "-"], "stdin is empty", 2),
        (["transcribe", "x.wav", "--translate", "--language", "de"], "--translate always gives English", 2),
        (["responses"], "the question is empty", 2),
        (["responses", "x", "-x", "--json"], "use one of them", 2),
        (["responses", "x", "-o", "input", "y"], "the input is the question", 2),
        (["responses", "x", "-o", "temperature", "warm"], "takes a number", 2),
    ],
)
def test_what_cannot_work(arguments: list[str], words: str, code: int) -> None:
    """One line says what is wrong and what to do; no picture is requested."""
    with spied(lambda path, body: pictures(PNG)) as (server, spy):
        done = inside(*arguments, "-m", "m", "--base-url", server.base_url)
    assert done.returncode == code, done.stderr
    assert spy.requests == []
    assert one_line(done.stderr)
    assert words in done.stderr


def test_no_model_for_pictures() -> None:
    """Without --model and a suitable name in the list, no chat model is used for pictures."""
    listed = {"object": "list", "data": [{"id": "llama", "object": "model", "created": 1, "owned_by": "x"}]}
    with spied(lambda path, body: (200, json.dumps(listed).encode())) as (server, spy):
        done = inside("image", "a fox", "--base-url", server.base_url)
    assert done.returncode == 2
    assert "name one with --model" in done.stderr
    assert spy.bodies("/images/generations") == []


# ---------------------------------------------------------------- speech


def test_speech_in_a_file_and_back(server: ServerThread, here: Path) -> None:
    """The ending of the file is the format; the words come back as text, subtitles and JSON."""
    where = ("--base-url", server.base_url)
    assert inside("speak", "Good morning", "-o", "a.wav", *where).returncode == 0
    assert audio_type((here / "a.wav").read_bytes()) == "audio/wav"
    assert inside("transcribe", "a.wav", *where).stdout == "Good morning\n"
    assert inside("transcribe", "-", *where, stdin=(here / "a.wav").read_bytes()).stdout == "Good morning\n"
    assert "-->" in inside("transcribe", "a.wav", "--format", "srt", *where).stdout
    assert inside("transcribe", "a.wav", "--format", "vtt", *where).stdout.startswith("WEBVTT\n")
    assert json.loads(inside("transcribe", "a.wav", "--format", "json", *where).stdout)["text"] == "Good morning"
    whole = inside("transcribe", "a.wav", "--format", "verbose_json", "-o", "a.json", *where)
    assert whole.stdout == ""
    assert json.loads((here / "a.json").read_text(encoding="utf-8"))["segments"]
    assert inside("transcribe", "a.wav", "--translate", *where).stdout.strip()


def test_speech_through_pipes(server: ServerThread) -> None:
    """Text from a pipe, sound into one."""
    options = ("-m", "demo-tts", "--format", "wav", "--base-url", server.base_url)
    with open("a.wav", "wb") as file:
        done = subprocess.run(
            [*COMMAND, "speak", *options],
            input=b"Good morning",
            stdout=file,
            check=False,
            timeout=30,
            env=environment(),
        )
    assert done.returncode == 0
    assert inside("transcribe", "a.wav", "--base-url", server.base_url).stdout == "Good morning\n"


def test_speech_that_fails_leaves_no_file(here: Path) -> None:
    """The file appears when it is complete, and an old one stays."""
    (here / "a.mp3").write_bytes(b"old")
    with spied(lambda path, body: refused("no voice")) as (server, spy):
        done = inside("speak", "x", "-o", "a.mp3", "--voice", "ada", "-m", "m", "--base-url", server.base_url)
    assert done.returncode == 1
    assert "no voice" in done.stderr
    assert [path.name for path in here.iterdir()] == ["a.mp3"]
    assert (here / "a.mp3").read_bytes() == b"old"
    sent = {"input": "x", "voice": "ada", "response_format": "mp3", "model": "m"}
    assert spy.bodies("/audio/speech") == [sent]


# ---------------------------------------------------------------- responses


def test_a_response(server: ServerThread) -> None:
    """Its text on stdout, streamed; the next question continues from its id."""
    where = ("-m", "demo-chat", "--base-url", server.base_url)
    done = inside("responses", "say one two", "-u", *where)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "one two\n"
    assert done.stderr.endswith("2 received.\n")
    first = json.loads(inside("responses", "My name is Ada.", "--json", *where).stdout)
    assert first["object"] == "response"
    done = inside("responses", "What is my name?", "--previous", first["id"], *where)
    assert "Ada" in done.stdout


def test_what_a_response_is_asked() -> None:
    """System prompt, parameters, fragments and pictures are where the Responses API has them."""
    with spied() as (server, spy):
        options = ("-s", "Be brief.", "-o", "max_output_tokens", "50", "-o", "store", "false", "-o", "top_k", "3")
        where = ("--no-stream", "-m", "demo-chat", "--base-url", server.base_url)
        Path("a.txt").write_text("A text.", encoding="utf-8")
        inside("responses", "What is it?", "-f", "a.txt", "-i", "-", *options, *where, stdin=PNG)
    (body,) = spy.bodies("/responses")
    picture: Any = body["input"][0]["content"][1]
    assert body["input"][0]["content"][0] == {"type": "input_text", "text": "A text.\n\nWhat is it?"}
    assert picture["image_url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert (body["instructions"], body["max_output_tokens"], body["store"]) == ("Be brief.", 50, False)
    assert body["top_k"] == 3
    assert not body.get("stream")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_sound_is_not_written_to_a_terminal(server: ServerThread) -> None:
    """It is refused before anything is sent, and a response on a terminal tells how to go on."""
    from .seat import pexpect

    for arguments, seen in (
        (["speak", "hello", "-m", "demo-tts"], "use -o FILE or a pipe"),
        (["responses", "say one", "-m", "demo-chat"], "Continue with: --previous resp_"),
    ):
        command = [*COMMAND[1:], *arguments, "--base-url", server.base_url]
        child = pexpect.spawn(COMMAND[0], command, env=environment(), encoding="utf-8", timeout=30)
        child.expect_exact(seen)
        child.expect(pexpect.EOF)
        child.close()


def test_speech_of_another_type_than_its_file(server: ServerThread, here: Path) -> None:
    """The ending of the file is the format that is asked for; sound of another type is kept, with a warning."""
    wave = b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)
    with spied(lambda path, body: (200, wave) if path.endswith("/speech") else None) as (fixed, spy):
        where = ("-m", "m", "--base-url", fixed.base_url)
        mp3 = inside("speak", "Hello", "-o", "out.mp3", *where)
        ogg = inside("speak", "Hello", "-o", "out.ogg", *where)
        wav = inside("speak", "Hello", "-o", "out.wav", *where)
        other = inside("speak", "Hello", "-o", "sound.bin", *where)
    assert [one.get("response_format") for one in spy.bodies("/audio/speech")] == ["mp3", "opus", "wav", None]
    assert (mp3.returncode, mp3.stdout) == (0, "out.mp3\n")
    assert mp3.stderr == "Warning: out.mp3 is wav, not mp3: the server did not send mp3.\n"
    assert ogg.stderr == "Warning: out.ogg is wav, not ogg: the server did not send opus.\n"
    assert (wav.stdout, wav.stderr, other.stderr) == ("out.wav\n", "", "")
    assert (here / "out.mp3").read_bytes() == wave
