"""The commands for pictures and sound: `image`, `speak` and `transcribe`."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from ..core.model.media_types import SNIFFED, audio_type, image_type
from ..lazy import resolve_annotations
from .api_options import api_parameters, extra_body_in
from .arguments import ANYWHERE, InputFile, ModelName, ServerOptions, choose_model, image_at, is_not_an_option
from .chat_options import file_option, pair_option
from .console import CommandError, Exit, json_bytes, note, write, write_bytes

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ..client import Client
    from ..core.codec.endpoint import Endpoint
    from ..storage.atomic import AtomicFile
    from ..types import ImagesResponse
    from .fragments import StandardInput

__all__ = ["add_media_commands"]

_REQUEST = Group("Request", sort_key=2)
_OUT = Parameter(name=("--out", "-o"), allow_leading_hyphen=True, validator=is_not_an_option)
_FLAGS = {"n": "--number", "response_format": "--format"}  # of parameters whose option has another name
_Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
_Transcript = Literal["text", "srt", "vtt", "json", "verbose_json"]
_SET = "it is set by the command itself"
_SOUNDS = {
    "aac": "audio/aac", "flac": "audio/flac", "m4a": "audio/mp4", "mp3": "audio/mpeg", "oga": "audio/ogg",
    "ogg": "audio/ogg", "opus": "audio/ogg", "pcm": "", "wav": "audio/wav", "weba": "audio/webm", "webm": "audio/webm",
}  # fmt: skip
"""The media types of sound by the ending of a file, which are also the names of formats; raw samples have none."""
_PICTURES = frozenset({"image/png", "image/jpeg", "image/webp"})
"""The media types of pictures that servers make; the endings of their files are the names of the types."""
_FORMATS = {"oga": "opus", "ogg": "opus"}  # of endings that are not the name of a format


@Parameter(name="*", group=_REQUEST)
@dataclass(frozen=True, kw_only=True)
class MediaOptions:
    """The options of a request for pictures or sound."""

    model: ModelName = None
    option: Annotated[
        tuple[tuple[str, str], ...],
        pair_option(
            _REQUEST, "A parameter of the API and its value, such as --option quality low. Repeatable.", "--option"
        ),
    ] = ()
    extra_body: Annotated[str | None, Parameter(help="Further fields of the request, as a JSON object or @FILE.")] = (
        None
    )

    no_log: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Do not add this to the log (openaiasync logs)."),
    ] = False

    def parameters(self, endpoint: Endpoint, fixed: Sequence[str], **given: Any) -> dict[str, Any]:
        """Return the parameters of a request: those given by options of the command, and the others.

        `fixed` names the parameters that the command itself sets. Raises `CommandError`.
        """
        flags = {name: f"use {_FLAGS.get(name, f'--{name}')}" for name in given} | dict.fromkeys(fixed, _SET)
        known, others = api_parameters(endpoint, self.option, flags, "--option")
        known |= {name: value for name, value in given.items() if value is not None}
        if body := {**others, **extra_body_in(self.extra_body)}:
            known["extra_body"] = body
        return known

    def log(
        self, server: ServerOptions, client: Client, command: str, prompt: str, params: Mapping[str, Any], **more: Any
    ) -> None:
        """Add a call to the log, unless --no-log was given."""
        if self.no_log:
            return
        from .call_log import LogEntry, log_call

        options = {name: value for name, value in params.items() if name != "model"}
        base, model = client.base_url.rstrip("/"), params.get("model")
        fields: dict[str, Any] = {"answer": "", **more}
        log_call(
            LogEntry(command=command, prompt=prompt, base_url=base, model=model, options=options, **fields),
            server.secrets(),
        )


_NOTHING = MediaOptions()


def _run(command: Coroutine[Any, Any, int]) -> int:
    import asyncio  # not for --help, which imports this module

    return asyncio.run(command)


def _text(argument: str | None, stdin: StandardInput, what: str) -> str:
    """Return the text given as an argument or through a pipe. Raises `CommandError` if neither was given."""
    from .fragments import text_in, text_of_argument

    if argument is None and not stdin.is_terminal:
        argument = text_in(stdin.read(what), "stdin")
    if not argument or not argument.strip():
        raise CommandError(f"{what} is empty; give it as an argument or through a pipe")
    return text_of_argument(argument, what)


# ---------------------------------------------------------------- image


def image(
    prompt: str | None = None,
    /,
    *,
    out: Annotated[str | None, _OUT] = None,
    inputs: Annotated[
        tuple[str, ...],
        file_option(None, 'A picture to change, or "-" for stdin; repeatable.', "--image", "-i"),
    ] = (),
    mask: str | None = None,
    number: Annotated[int | None, Parameter(name=("--number", "-n"), validator=Number(gte=1, lte=100))] = None,
    size: str | None = None,
    quality: str | None = None,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    options: MediaOptions = _NOTHING,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Make pictures from a description, or change pictures, and print the names of the files.

    The description is the argument or the piped text.

    Parameters
    ----------
    prompt:
        The description.
    out:
        The file; with several pictures their numbers are added to its name. A folder gets numbered files, "-" is
        stdout. Default: image-1.png, or the next number that is free.
    mask:
        A picture whose transparent parts show what to change.
    number:
        Number of pictures.
    size:
        The size, such as 1024x1024.
    quality:
        The quality, such as low or high.
    json:
        Print the names and what the server says about the pictures, as JSON.
    """
    from .fragments import StandardInput

    stdin = StandardInput()
    pictures = [_uploaded(place, stdin) for place in inputs]
    text = _text(prompt, stdin, "the description")
    if mask is not None and not pictures:
        raise CommandError("--mask shows what to change in a picture; name the picture with -i")
    if out == "-" and (sys.stdout.isatty() or (number or 1) > 1 or json):
        raise CommandError("-o - writes one picture to a pipe or file; use -o FILE")
    if out not in (None, "-"):
        _check_folder(str(out))
    return _run(
        _make(server, text, pictures, mask, {"n": number, "size": size, "quality": quality}, options, out, json)
    )


def _uploaded(place: str, stdin: StandardInput | None) -> Path | bytes:
    if "://" in place[:8]:
        raise CommandError(f"{place}: a picture to change is uploaded, and must be a file")
    picture = image_at(place, stdin)
    return Path(picture) if isinstance(picture, str) else picture


async def _make(
    server: ServerOptions,
    prompt: str,
    pictures: list[Path | bytes],
    mask: str | None,
    given: dict[str, Any],
    options: MediaOptions,
    out: str | None,
    as_json: bool,
) -> int:
    from ..endpoints import IMAGES_EDIT, IMAGES_GENERATE

    endpoint = IMAGES_EDIT if pictures else IMAGES_GENERATE
    params = options.parameters(endpoint, ("prompt", "model", "image", "stream"), **given)
    if mask is not None:
        params["mask"] = _uploaded(mask, None)
    async with server.client() as client:
        params["model"] = await choose_model(client, options.model, "image")
        answer: ImagesResponse
        if pictures:
            images: Any = client.images  # its parameters are a dict, of which the type of the answer depends
            answer = await images.edit(image=pictures, prompt=prompt, **params)
        else:
            answer = await client.image_generate(prompt, **params)
        made = list(answer.data or ())
        if not made:
            raise CommandError("the server sent no picture", Exit.FAILED)
        saved: list[dict[str, Any]] = []
        for index, one in enumerate(made):
            data = await one.bytes()
            if out == "-":
                write_bytes(data)
                continue
            path = _save_picture(data, out, index if len(made) > 1 else None)
            saved.append({"file": str(path), "revised_prompt": getattr(one, "revised_prompt", None)})
            if not as_json:
                write(f"{path}\n")
    if as_json:
        write_bytes(json_bytes(saved))
    options.log(server, client, "image", prompt, params, files=[one["file"] for one in saved])
    return Exit.OK


def _save_picture(data: bytes, out: str | None, index: int | None) -> Path:
    """Write a picture to the named file, or to the next numbered file that does not exist, and return its path."""
    kind = image_type(data)
    ending = f".{kind.removeprefix('image/')}" if kind else ".png"
    named = None if out is None or Path(out).expanduser().is_dir() else Path(out).expanduser()
    if named is not None and index is not None:
        named = named.with_name(f"{named.stem}-{index + 1}{named.suffix}")
    folder = Path() if out is None else Path(out).expanduser()
    count = 0
    while True:
        count += 1
        path = named or folder / f"image-{count}{ending}"
        if named is None and path.exists():
            continue
        file = _opened(str(path))
        try:
            with _writing(path):
                file.write(data)
                file.commit(exclusive=named is None)
        except FileExistsError:
            continue  # another command took the number
        finally:
            file.discard()
        written = path.suffix[1:].lower().replace("jpg", "jpeg")
        if kind is not None and f"image/{written}" in _PICTURES and kind != f"image/{written}":
            note(f"Warning: {path} is {ending[1:]}, not {path.suffix[1:]}: the server chose the format.")
        return path


# ---------------------------------------------------------------- speak


def speak(
    text: str | None = None,
    /,
    *,
    out: Annotated[str | None, _OUT] = None,
    voice: str | None = None,
    format: _Format | None = None,
    speed: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    instructions: str | None = None,
    options: MediaOptions = _NOTHING,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Turn text into speech, written to a file or to stdout while it arrives.

    The text is the argument or the piped text: openaiasync speak "Good morning." > morning.mp3

    Parameters
    ----------
    text:
        The text.
    out:
        The file, which appears when it is complete. Default: stdout.
    voice:
        The voice. Default: alloy.
    format:
        The format. Default: by the ending of --out, otherwise the server's, mostly mp3.
    speed:
        The speed; 1 is normal.
    instructions:
        How to speak, for models that support instructions.
    """
    from .fragments import StandardInput

    spoken = _text(text, StandardInput(), "the text")
    if out in (None, "-") and sys.stdout.isatty():
        raise CommandError("sound is not written to a terminal; use -o FILE or a pipe")
    ending = "" if out is None else Path(out).suffix[1:].lower()
    ending = _FORMATS.get(ending, ending)
    chosen = format or (ending if ending in get_args(_Format) else None)
    given = {"voice": voice, "response_format": chosen, "speed": speed, "instructions": instructions}
    return _run(_speak(server, spoken, options, given, None if out in (None, "-") else os.path.expanduser(str(out))))


async def _speak(
    server: ServerOptions, text: str, options: MediaOptions, given: dict[str, Any], out: str | None
) -> int:
    from ..endpoints import AUDIO_SPEECH_CREATE

    params = options.parameters(AUDIO_SPEECH_CREATE, ("input", "model", "stream_format"), **given)
    async with server.client() as client:
        params["model"] = await choose_model(client, options.model, "speech")
        file = None if out is None else _opened(out)
        head = b""
        try:
            async with client.text_to_speech.stream(text, **params) as stream:
                async for piece in stream:
                    head += piece[: SNIFFED - len(head)]
                    if file is None:
                        write_bytes(piece)
                    else:
                        with _writing(str(out)):
                            file.write(piece)
            if file is not None:
                with _writing(str(out)):
                    file.commit()
        finally:
            if file is not None:
                file.discard()
    _note_other_sound(head, out, params.get("response_format"))
    if out is not None:
        write(f"{out}\n")
    options.log(server, client, "speak", text, params, files=[] if out is None else [out])
    return Exit.OK


def _note_other_sound(head: bytes, out: str | None, requested: object) -> None:
    """Print a warning if the first bytes of a sound are not of the type that its file's name, or the request, says."""
    ending = "" if out is None else Path(out).suffix[1:].lower()
    named = ending if ending in _SOUNDS else requested
    kind = audio_type(head)
    if not isinstance(named, str) or kind is None or _SOUNDS.get(named, kind) == kind:
        return
    name = next(name for name in ("mp3", "wav", "opus", *_SOUNDS) if _SOUNDS[name] == kind)
    why = "" if requested is None or _SOUNDS.get(str(requested)) == kind else f": the server did not send {requested}"
    note(f"Warning: {'the sound' if out is None else out} is {name}, not {named}{why}.")


# ---------------------------------------------------------------- transcribe


def transcribe(
    file: InputFile,
    /,
    *,
    out: Annotated[str | None, _OUT] = None,
    format: _Transcript = "text",
    language: str | None = None,
    prompt: str | None = None,
    translate: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    options: MediaOptions = _NOTHING,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Turn speech into text: plain, as subtitles, or as JSON.

    Parameters
    ----------
    file:
        A file with sound; "-" is stdin.
    out:
        The file to write. Default: stdout.
    format:
        The format of the transcript; "verbose_json" has the times of its segments.
    language:
        The spoken language, such as en.
    prompt:
        Words or names that occur in the sound, or the preceding text.
    translate:
        Translate it to English.
    """
    from .fragments import StandardInput

    sound: bytes | Path
    if file == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise CommandError("there is no sound on stdin; name a file")
        sound = StandardInput().read("-")
        if not sound:
            raise CommandError("stdin is empty")
    else:
        sound = Path(file).expanduser()
    if translate and language is not None:
        raise CommandError("--language is the language of a transcript; --translate always gives English")
    if out not in (None, "-"):
        _check_folder(str(out))
    if isinstance(sound, Path):
        try:
            with open(sound, "rb") if not sound.is_fifo() else nullcontext():  # opening a pipe would wait
                pass
        except OSError as error:
            raise CommandError(f"cannot read {file}: {error.strerror}") from None
    given = {"language": language, "prompt": prompt}
    return _run(_transcribe(server, sound, options, format, given, translate, out))


async def _transcribe(
    server: ServerOptions,
    sound: bytes | Path,
    options: MediaOptions,
    form: _Transcript,
    given: dict[str, Any],
    translate: bool,
    out: str | None,
) -> int:
    from ..endpoints import AUDIO_TRANSCRIPTIONS_CREATE, AUDIO_TRANSLATIONS_CREATE

    endpoint = AUDIO_TRANSLATIONS_CREATE if translate else AUDIO_TRANSCRIPTIONS_CREATE
    given = {name: value for name, value in given.items() if name in endpoint.known}
    params = options.parameters(endpoint, ("file", "model", "stream"), **given)
    # The text of "json" is that of "text", which the newer models do not have.
    params.setdefault("response_format", "json" if form == "text" else form)
    async with server.client() as client:
        params["model"] = await choose_model(client, options.model, "transcription")
        if translate:
            answer: Any = await client.audio.translations.create(file=sound, **params)
        else:
            answer = await client.speech_to_text(sound, **params)
    if form in ("json", "verbose_json"):
        data = json_bytes(answer.to_dict())
    else:
        text = answer if isinstance(answer, str) else answer.text
        if not text.strip():
            note("The transcript is empty.")
        data = f"{text.rstrip()}\n".encode("utf-8", "replace") if text.strip() else b""
    name = str(sound) if isinstance(sound, Path) else "-"
    options.log(server, client, "transcribe", "", params, answer=data.decode(), files=[name])
    if out in (None, "-"):
        if form in ("json", "verbose_json"):
            write_bytes(data)
        else:
            write(data.decode())
    else:
        _write_file(str(out), data)
    return Exit.OK


def _opened(out: str) -> AtomicFile:
    """Begin to write a file. Raises `CommandError`."""
    from ..storage.atomic import AtomicFile

    with _writing(out):
        return AtomicFile.open(os.path.expanduser(out))


@contextmanager
def _writing(out: str | Path) -> Generator[None, None, None]:
    """Turn an `OSError` into a `CommandError` with the name of the file; a file that exists stays `FileExistsError`."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror}") from None


def _check_folder(out: str) -> None:
    """Raise `CommandError` if the folder of a file does not exist: before a request, which may cost something."""
    folder = Path(out).expanduser().parent
    if not folder.is_dir():
        raise CommandError(f"cannot write {out}: there is no folder {folder}")


def _write_file(out: str, data: bytes) -> None:
    file = _opened(out)
    try:
        with _writing(out):
            file.write(data)
            file.commit()
    finally:
        file.discard()


def add_media_commands(app: App) -> None:
    """Add the commands for pictures and sound."""
    for command in (image, speak, transcribe):
        app.command(command)


resolve_annotations(__name__)
