"""Forms: every value in its place and under its name, files told from texts, nothing that could break the form."""

from __future__ import annotations

import datetime
import enum
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forms import Part, parts_of
from openaiasync.core.codec.endpoint import Endpoint
from openaiasync.core.http.multipart import Multipart
from openaiasync.core.model.base import OpenModel
from openaiasync.core.model.omitted import NOT_GIVEN, omit

UPLOAD = Endpoint(
    "things.create", "POST", "/things", required="file name", optional="tags", body="multipart", files="file"
)
MAYBE = Endpoint(
    "things.maybe", "POST", "/things/{thing_id}", required="thing_id", optional="file n", body="multipart", files="file"
)
CALL = Endpoint(
    "calls.create",
    "POST",
    "/calls",
    required="sdp",
    optional="session",
    body="multipart",
    parts="sdp=application/sdp session=application/json",
    alone="sdp",
)


def written(form: Multipart) -> bytes:
    """The body of a form whose files are all in memory."""
    body = b""
    for part in form.parts:
        assert not isinstance(part.content, str)
        content = part.content if isinstance(part.content, bytes) else part.content.read()
        body += part.head + content + b"\r\n"
    return body + form.tail


def parsed(fields: dict[str, Any], files: str = "file") -> list[Part]:
    form = Multipart.of(fields, files.split())
    return parts_of(form.content_type, written(form))


def test_the_bytes_of_a_form() -> None:
    """A form is written as RFC 7578 says: boundary lines, a header each, CRLF everywhere, texts before files."""
    form = Multipart.of({"file": b"abc", "model": "m"}, {"file"}, boundary="XX")
    assert form.content_type == "multipart/form-data; boundary=XX"
    assert written(form) == (
        b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="upload"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\nabc\r\n--XX--\r\n"
    )


def test_values_are_written_as_json_would_have_them() -> None:
    """Arrays are ``name[]``, objects ``name[key]``, booleans in lower case; nothing and "not given" leave no part."""

    class Level(enum.Enum):
        LOW = "low"

    fields = {
        "a": ["x", 2, True],
        "b": {"c": {"d": [1.5]}, "e": None},
        "f": None,
        "g": omit,
        "h": NOT_GIVEN,
        "i": [],
        "j": [{"k": 1}],
        "l": datetime.date(2026, 1, 2),
        "m": Level.LOW,
        "n": OpenModel.model_construct(o="ü"),
        "p": False,
    }
    assert [(part.name, part.content.decode()) for part in parsed(fields)] == [
        ("a[]", "x"),
        ("a[]", "2"),
        ("a[]", "true"),
        ("b[c][d][]", "1.5"),
        ("j[][k]", "1"),
        ("l", "2026-01-02"),
        ("m", "low"),
        ("n[o]", "ü"),
        ("p", "false"),
    ]


@pytest.mark.parametrize(
    ("value", "file_name", "media_type"),
    [
        (b"abc", "upload", "application/octet-stream"),
        (bytearray(b"abc"), "upload", "application/octet-stream"),
        (io.BytesIO(b"abc"), "upload", "application/octet-stream"),
        (("a.png", b"abc"), "a.png", "image/png"),
        (("a.png", "abc"), "a.png", "image/png"),
        (("a.unknown", b"abc"), "a.unknown", "application/octet-stream"),
        (("a.png", b"abc", "image/x-odd"), "a.png", "image/x-odd"),
        (("a.png", io.BytesIO(b"abc"), None, {"X-More": "1"}), "a.png", "image/png"),
        (("a.png", b"abc", None, {"content-type": "text/odd"}), "a.png", "text/odd"),
        ((None, b"abc"), "upload", "application/octet-stream"),
        (("", io.BytesIO(b"abc")), "upload", "application/octet-stream"),
        ((None, b"abc", "audio/wav"), "upload.wav", "audio/wav"),
        ((None, "abc", "application/sdp"), None, "application/sdp"),
        (("dir/ä \\ b.txt", b"abc"), "dir/ä \\ b.txt", "text/plain"),
    ],
)
def test_names_and_types_of_files(value: Any, file_name: str | None, media_type: str | None) -> None:
    """A file has the name and type that its tuple says, else those of its name; bare bytes get a name, too."""
    form = Multipart.of({"file": value}, {"file"})
    (part,) = parts_of(form.content_type, written(form))
    assert part == Part("file", b"abc", file_name, media_type)
    assert form.uploads == 1


def test_a_part_carries_the_fields_of_its_tuple() -> None:
    """The fourth place of a tuple holds more header fields."""
    form = Multipart.of({"file": ("a", b"", "a/b", {"X-More": "1"})}, {"file"}, boundary="B")
    assert b'filename="a"\r\nX-More: 1\r\nContent-Type: a/b\r\n\r\n' in form.parts[0].head


def test_several_files_are_an_array() -> None:
    """A list of files is ``name[]`` once each, in order; a tuple of files is a list, too."""
    for value in ([b"1", ("b.png", b"2")], (b"1", ("b.png", b"2"))):
        assert [part[:3] for part in parsed({"image": value}, "image")] == [
            ("image[]", b"1", "upload"),
            ("image[]", b"2", "b.png"),
        ]


def test_an_open_file_is_named_after_its_path(tmp_path: Path) -> None:
    """Files on the disk go by the last part of their path, descriptors and unnamed ones by the stand-in."""
    path = tmp_path / "voice.mp3"
    path.write_bytes(b"x")
    with path.open("rb") as file, open(os.open(path, os.O_RDONLY), "rb") as numbered:
        assert parsed({"file": file})[0][2:] == ("voice.mp3", "audio/mpeg")
        assert parsed({"file": numbered})[0].file_name == "upload"
    with tempfile.SpooledTemporaryFile() as spooled:
        assert parsed({"file": spooled})[0].file_name == "upload"
    (part,) = Multipart.of({"file": path}, {"file"}).parts
    assert part.content == str(path)
    assert b'filename="voice.mp3"\r\nContent-Type: audio/mpeg' in part.head


@pytest.mark.parametrize("name", ['a"b', "a\r\nX-Evil: 1\r\n\r\n", "a\\b", "\x00\x1b\x7f", "名前.txt", "a;b=c"])
def test_no_name_breaks_out_of_its_quotes(name: str) -> None:
    """Quotes and control characters in names are percent-encoded, backslashes doubled, the rest is UTF-8."""
    form = Multipart.of({"file": (name, b"content"), name: "text"}, {"file"})
    parts = parts_of(form.content_type, written(form))
    assert [part.content for part in parts] == [b"text", b"content"]
    assert all(part.head.count(b"\r\n") <= 4 for part in form.parts)
    assert parts[1].file_name is not None
    assert "X-Evil" not in [line.partition(b":")[0].decode() for line in form.parts[1].head.split(b"\r\n")]


def test_a_file_name_that_is_no_utf8_goes_out_as_it_is_on_the_disk() -> None:
    """Names of files are bytes on Unix; no name makes an upload fail."""
    assert b'filename="a\xff.txt"' in Multipart.of({"file": Path("a\udcff.txt")}, {"file"}).parts[0].head
    assert b'filename="a?.txt"' in Multipart.of({"file": ("a\ud800.txt", b"")}, {"file"}).parts[0].head


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("speech.mp3", "a str is not a file; pass pathlib.Path"),
        (3, "int is not a file"),
        (io.StringIO("text"), "binary mode"),
        ([b"a", "b"], "a str is not a file"),
        (("a.txt", 3), "int is not a file"),
    ],
)
def test_what_is_no_file_is_refused(value: Any, reason: str) -> None:
    """A field that takes files refuses anything else, saying what to pass."""
    with pytest.raises(TypeError, match=f"file: .*{reason}|{reason}"):
        Multipart.of({"file": value}, {"file"})


def test_an_asynchronous_file_is_refused() -> None:
    """A file whose reading must be awaited cannot be read in a thread."""

    class Async:
        async def read(self, size: int) -> bytes:
            return b""

    with pytest.raises(TypeError, match="asynchronous"):
        Multipart.of({"file": Async()}, {"file"})


def test_bad_values_are_refused() -> None:
    """An empty path, NaN, half a surrogate pair, a line break in a type: errors that name the field."""

    class Nowhere(os.PathLike[str]):
        def __fspath__(self) -> str:
            return ""

    for fields, kind in (
        ({"file": Nowhere()}, ValueError),
        ({"n": float("nan")}, ValueError),
        ({"n": "\ud800"}, ValueError),
        ({"n": object()}, TypeError),
        ({"file": ("a", b"", "a/b\r\nX: y")}, ValueError),
        ({"file": ("a", b"", None, {"X\n": "y"})}, ValueError),
        ({"file": ("a", b"", None, {"": "y"})}, ValueError),
    ):
        with pytest.raises(kind, match=r"^(file|n): "):
            Multipart.of(fields, {"file"})


def test_two_forms_never_share_a_boundary() -> None:
    """Nobody can know a boundary beforehand and put it into a field."""
    assert Multipart.of({}).boundary != Multipart.of({}).boundary
    assert len(Multipart.of({}).boundary) == 32


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=5),
        st.one_of(st.binary(max_size=50), st.lists(st.binary(max_size=9), min_size=1, max_size=3)),
        max_size=4,
    )
)
def test_any_content_comes_out_as_it_went_in(fields: dict[str, Any]) -> None:
    """Whatever bytes a file holds, line ends and boundary-like lines too, a parser gets exactly them."""
    form = Multipart.of(fields)
    want = [
        (f"{name}[]" if isinstance(value, list) else name, item)
        for name, value in fields.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    # The standard library's parser treats lone CR and LF as line ends, so contents are cut out of the bytes here.
    body = written(form)
    cut = body.split(f"--{form.boundary}".encode())
    assert cut[-1] == b"--\r\n"
    got = [piece.partition(b"\r\n\r\n")[2][:-2] for piece in cut[1:-1]]
    assert got == [item for _, item in want]


# -------------------------------------------------------------------------------------------------- through an endpoint


def test_an_endpoint_makes_a_form_of_its_fields() -> None:
    """Path parameters stay out of the form, `extra_body` goes in (its bytes as files), `stream` is a field."""
    request = MAYBE.request(
        {"thing_id": "t", "file": b"x", "n": 1, "extra_body": {"n": 2, "o": b"y"}, "timeout": 1}, stream=True
    )
    form = request.body
    assert request.path == "/things/t"
    assert [part[:2] for part in parts_of(form.content_type, written(form))] == [
        ("n", b"2"),
        ("stream", b"true"),
        ("file", b"x"),
        ("o", b"y"),
    ]


def test_a_form_without_a_file_is_a_form() -> None:
    """An operation whose file is optional gets a form all the same; required ones are missed at once."""
    for fields, parts in (({"n": 1}, [("n", b"1")]), ({"file": {"id": "f"}}, [("file[id]", b"f")])):
        form = MAYBE.request({"thing_id": "t", **fields}).body
        assert [part[:2] for part in parts_of(form.content_type, written(form))] == parts
    form = MAYBE.request({"thing_id": "t"}).body
    assert written(form) == f"--{form.boundary}--\r\n".encode()
    assert isinstance(MAYBE.request({"thing_id": "t", "extra_body": {"file": b""}}).body, Multipart)
    with pytest.raises(TypeError, match="is missing the file 'file'"):
        UPLOAD.request({"file": None, "name": "n"})
    with pytest.raises(TypeError, match="extra_body must be a mapping"):
        UPLOAD.request({"file": b"", "name": "n", "extra_body": [1]})


def test_an_operation_may_prefer_json_without_a_file() -> None:
    """Then types and nesting stay; with a file among its fields it is a form."""
    either = Endpoint("x.y", "POST", "/x", optional="files n", body="multipart-or-json", files="files")
    assert either.request({"n": [1, {"a": None}]}).body == b'{"n":[1,{"a":null}]}'
    assert either.request({}).body == b"{}"
    assert isinstance(either.request({"files": [b"x"], "n": 1}).body, Multipart)
    assert isinstance(either.request({"extra_body": {"more": b"x"}}).body, Multipart)


def test_fields_with_a_media_type_are_parts_of_that_type() -> None:
    """JSON is encoded, text stands as it is; neither gets a file name, and what is omitted is left out."""
    form = CALL.request({"sdp": "v=0", "session": {"type": "realtime", "tools": [1]}}).body
    assert parts_of(form.content_type, written(form)) == [
        ("sdp", b"v=0", None, "application/sdp"),
        ("session", b'{"type":"realtime","tools":[1]}', None, "application/json"),
    ]
    form = CALL.request({"sdp": "v=0", "session": None}).body
    assert [part[:2] for part in parts_of(form.content_type, written(form))] == [("sdp", b"v=0"), ("session", b"null")]
    with pytest.raises(TypeError, match="sdp is a string, not int"):
        CALL.request({"sdp": 1, "session": {}})


def test_a_field_that_may_stand_alone_is_the_body() -> None:
    """Where no other is given the body is its text, of its media type."""
    for more in ({}, {"session": omit}, {"extra_body": {}}):
        assert CALL.request({"sdp": "v=0 \u00e9", **more}).body == ("application/sdp", "v=0 \u00e9".encode())
    assert isinstance(CALL.request({"sdp": "v=0", "extra_body": {"more": "1"}}).body, Multipart)
    with pytest.raises(TypeError, match="sdp is a string, not bytes"):
        CALL.request({"sdp": b"v=0"})
    with pytest.raises(ValueError, match="surrogate"):
        CALL.request({"sdp": "\ud800"})


def test_the_format_of_a_transcript_is_known_from_the_parameters() -> None:
    """The request tells which format was asked for, whether it is named as a parameter or in `extra_body`."""
    endpoint = Endpoint(
        "t", "POST", "/t", required="file", optional="response_format", body="multipart", codec="json_or_text"
    )
    for more, wanted in (
        ({}, ""),
        ({"response_format": None}, ""),
        ({"response_format": "srt"}, "srt"),
        ({"extra_body": {"response_format": "vtt"}}, "vtt"),
        ({"response_format": "text", "extra_body": {"response_format": "json"}}, "json"),
    ):
        assert endpoint.request({"file": b"", **more}).response_format == wanted


@pytest.mark.parametrize(
    "fields",
    [
        {"X A": "1"},
        {"": "1"},
        {"X:A": "1"},
        {"X-A ": "1"},
        {"X\r\nA": "1"},
        {"Content-Disposition": 'form-data; name="other"'},
        {"content-disposition": "attachment"},
        {"Content-Length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"Content-Transfer-Encoding": "base64"},
        {"X-A": "a\r\nContent-Disposition: x"},
        {"X-A": "a\0"},
    ],
)
def test_fields_of_a_part_that_would_change_it_are_refused(fields: dict[str, str]) -> None:
    """A second disposition, an invalid name or a line end cannot change the framing of a part."""
    with pytest.raises(ValueError, match="file: "):
        Multipart.of({"file": ("f", b"x", "text/plain", fields)}, {"file"})
