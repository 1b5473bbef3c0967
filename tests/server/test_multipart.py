"""Forms over a real socket: uploads of the package's own client, and forms that nobody should send."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import run
from openaiasync import BadRequestError, Client, NotFoundError
from openaiasync.core.http.multipart import Multipart
from openaiasync.demo import demo_app
from openaiasync.server import (
    HTTPError,
    HTTPServer,
    Server,
    serve,
    start_in_thread,
)
from openaiasync.server.files import FileStore
from openaiasync.server.form import (
    UploadedFile,
    body_of,
    parse_boundary,
    parse_form,
)

FORM = "multipart/form-data; boundary=B"


def encoded(form: Multipart) -> bytes:
    """The body of a form whose files are all bytes."""
    return b"".join(part.head + bytes(part.content) + b"\r\n" for part in form.parts) + form.tail  # type: ignore[arg-type]


def part(head: str, content: bytes = b"x") -> bytes:
    return b"--B\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


NAMED = 'Content-Disposition: form-data; name="purpose"'
FILE = 'Content-Disposition: form-data; name="file"; filename="a"'
GOOD = part(NAMED, b"vision") + part(FILE, b"data") + b"--B--\r\n"


def refused(body: bytes, boundary: bytes = b"B") -> HTTPError:
    with pytest.raises(HTTPError) as caught:
        body_of(parse_form(boundary, body), lambda name: frozenset({"string"}))
    return caught.value


class TestParsing:
    """RFC 7578, with nothing passed over."""

    def test_parts_are_told_apart(self) -> None:
        """Name, file name, media type and content, byte for byte; a value has no file name."""
        parts = parse_form(b"B", GOOD)
        assert parts == [UploadedFile("purpose", None, "", b"vision"), UploadedFile("file", "a", "", b"data")]
        head = 'content-disposition: FORM-DATA;name=f ; filename="b.png"\r\nContent-Type: Image/PNG; q=1\r\nX-More: y'
        content = b"\r\n--b\r\n--\r\n\x00\xff\r\n"
        assert parse_form(b"B", part(head, content) + b"--B--") == [UploadedFile("f", "b.png", "image/png", content)]

    @given(
        st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=50), max_size=4),
        st.lists(st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=200)), max_size=3),
    )
    @settings(max_examples=60)
    def test_what_the_client_sends_comes_back(self, texts: dict[str, str], files: list[tuple[str, bytes]]) -> None:
        """The client's encoder and the server's parser agree on every name, file name and content."""
        names = {f"n{number}": value for number, value in enumerate(texts.values())}
        form = Multipart.of({**names, "file": files}, files=("file",))
        parts = parse_form(parse_boundary(form.content_type.encode()), encoded(form))
        values = [found for found in parts if found.file_name is None]
        assert [(found.name, found.content.decode()) for found in values] == list(names.items())
        sent = [(found.name, found.content) for found in parts if found.file_name is not None]
        assert sent == [("file[]", content) for _, content in files]

    @pytest.mark.parametrize("name", ['a"b.png', "ä 世界.wav", "back\\slash", "a;b=c.txt", "line\nbreak", "50%.txt"])
    def test_file_names(self, name: str) -> None:
        """Quotes, line breaks and backslashes come back as they were."""
        form = Multipart.of({"file": (name, b"")}, files=("file",))
        assert parse_form(form.boundary.encode(), encoded(form)) == [
            UploadedFile("file", name, parse_form(form.boundary.encode(), encoded(form))[0].media_type, b"")
        ]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"--B",
            b"--B--x",
            b"--B\r\n",
            b"--Bx\r\n" + GOOD,
            b"junk\r\n" + GOOD,
            GOOD + b"junk",
            GOOD[:-6],
            GOOD.replace(b"\r\n", b"\n"),
            part(NAMED, b"a\r\n--Bc") + b"--B--\r\n",
            b"--B\r\n" + NAMED.encode() + b"\r\n--B--\r\n",
            b"--B\r\n\r\nno header\r\n--B--\r\n",
            part("Content-Type: text/plain") + b"--B--\r\n",
            part("Content-Disposition: attachment; name=a") + b"--B--\r\n",
            part("Content-Disposition: form-data") + b"--B--\r\n",
            part('Content-Disposition: form-data; name=""') + b"--B--\r\n",
            part('Content-Disposition: form-data; name="a') + b"--B--\r\n",
            part("Content-Disposition: form-data; name=a; name=b") + b"--B--\r\n",
            part("Content-Disposition: form-data; name=a; filename*=UTF-8''a") + b"--B--\r\n",
            part(NAMED + "\r\n" + NAMED) + b"--B--\r\n",
            part(NAMED + "\r\n folded: x") + b"--B--\r\n",
            part(NAMED + "\r\nbad name: x") + b"--B--\r\n",
            part(NAMED + "\r\nX: \x00") + b"--B--\r\n",
            part(NAMED + "".join(f"\r\nX-{n}: y" for n in range(20))) + b"--B--\r\n",
            part(NAMED + "\r\nX: " + "y" * 9000) + b"--B--\r\n",
        ],
    )
    def test_malformed(self, body: bytes) -> None:
        """Each says what is wrong, in a 400."""
        refusal = refused(body)
        assert (refusal.status, refusal.code) == (400, "invalid_multipart")
        assert refusal.message.startswith("The form cannot be read: ")

    @pytest.mark.parametrize(
        ("body", "status", "param"),
        [
            (part(NAMED, b"\xff"), 400, "purpose"),
            (part(NAMED + "\r\nContent-Type: text/plain; charset=latin-1"), 400, "purpose"),
            (part(FILE + "\r\nContent-Transfer-Encoding: base64"), 400, "file"),
            (part(NAMED) * 2, 400, "purpose"),
            (part(NAMED.replace("purpose", "a[]")) + part(NAMED.replace("purpose", "a")), 400, "a"),
            (part('Content-Disposition: form-data; name="a[b]"') * 2, 400, "a"),
            (part('Content-Disposition: form-data; name="a[b][c]"'), 400, "a[b][c]"),
            (part(NAMED, b"x" * 1_048_577), 413, "purpose"),
            (part('Content-Disposition: form-data; name="a[]"') * 257, 413, None),
        ],
    )  # fmt: skip
    def test_values_that_cannot_be(self, body: bytes, status: int, param: str | None) -> None:
        """The part at fault is named."""
        refusal = refused(body + b"--B--\r\n")
        assert (refusal.status, refusal.param) == (status, param)

    @pytest.mark.parametrize(
        ("content_type", "status"),
        [
            (None, 415),
            (b"application/json", 415),
            (b"multipart/mixed; boundary=B", 415),
            (b"multipart/form-data", 400),
            (b"multipart/form-data; boundary=", 400),
            (b'multipart/form-data; boundary=""', 400),
            (b"multipart/form-data; boundary=" + b"x" * 71, 400),
            (b'multipart/form-data; boundary="a "', 400),
            (b"multipart/form-data; boundary=a; boundary=b", 400),
        ],
    )
    def test_boundaries(self, content_type: bytes | None, status: int) -> None:
        """A missing, impossible or ambiguous boundary is refused, and another media type."""
        with pytest.raises(HTTPError) as caught:
            parse_boundary(content_type)
        assert caught.value.status == status
        assert parse_boundary(b'Multipart/Form-Data; charset=utf-8; boundary="a b\'c"') == b"a b'c"

    def test_fields_become_a_body(self) -> None:
        """Numbers, booleans, arrays and objects become JSON values; an invalid number stays a text."""
        form = Multipart.of(
            {
                "n": 2,
                "temperature": 0.5,
                "stream": True,
                "include": ["a"],
                "expires_after": {"anchor": "x"},
                "size": "7",
            }
        )
        types = {"n": "integer", "temperature": "number", "stream": "boolean", "include": "array"}

        def kinds(name: str) -> frozenset[str]:
            return frozenset([types.get(name, "string")])

        assert body_of(parse_form(form.boundary.encode(), encoded(form)), kinds) == {
            "n": 2, "temperature": 0.5, "stream": True, "include": ["a"], "expires_after": {"anchor": "x"}, "size": "7",
        }  # fmt: skip
        assert body_of([UploadedFile("n", None, "", b"two")], kinds) == {"n": "two"}
        several = [UploadedFile("include", None, "", one) for one in (b"a", b"b")]
        assert body_of(several, kinds) == {"include": ["a", "b"]}

    def test_linear_time(self) -> None:
        """Bytes that nearly are boundaries cost no more than others."""
        begin = time.thread_time()
        parse_form(b"B", part(FILE, b"\r\n--A" * 500_000) + b"--B--\r\n")
        assert time.thread_time() - begin < 5


def post(server: Any, body: bytes, content_type: str = FORM, path: str = "/v1/files") -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_malformed_forms_on_the_wire() -> None:
    """Error objects, and the server goes on serving."""
    with start_in_thread(serve(demo_app(strict=True))) as thread:
        server: HTTPServer = thread.server
        status, answer = post(server, GOOD)
        assert (status, answer["bytes"], answer["filename"]) == (200, 4, "a")
        for body, content_type, expected, param in (
            (GOOD[:-4], FORM, 400, None),
            (GOOD, "application/json", 415, None),
            (GOOD, "multipart/form-data", 400, None),
            (part(FILE) + b"--B--\r\n", FORM, 400, "purpose"),
            (part(NAMED, b"vision") + b"--B--\r\n", FORM, 400, "file"),
            (part(NAMED, b"fun") + part(FILE) + b"--B--\r\n", FORM, 400, "purpose"),
            (GOOD.replace(b'; filename="a"', b""), FORM, 400, "file"),
            (part("Content-Disposition: form-data; name=more") + GOOD, FORM, 400, "more"),
        ):
            status, answer = post(server, body, content_type)
            assert (status, answer["error"]["param"]) == (expected, param)
            assert set(answer["error"]) == {"message", "type", "param", "code"}
        assert post(server, GOOD)[0] == 200


def test_too_large_a_form() -> None:
    """413 beyond the application's limit."""
    with start_in_thread(serve(Server(max_body=1000))) as thread:
        assert post(thread.server, part(NAMED, b"vision") + part(FILE, b"x" * 2000) + b"--B--\r\n")[0] == 413


class TestFiles:
    """Files through the package's own client: kept, listed, given back, deleted."""

    def test_round_trip(self, tmp_path: Path) -> None:
        """Paths, bytes, open files and tuples arrive whole, with names; strictly decoded."""
        path = tmp_path / "größe.bin"
        path.write_bytes(bytes(range(256)) * 3000)

        async def main() -> None:
            async with serve(demo_app()) as server, Client(api_base=server.base_url, strict=True) as client:
                made = [
                    await client.files.create(file=path, purpose="user_data"),
                    await client.files.create(file=b"\r\n--", purpose="batch"),
                    await client.files.create(file=io.BytesIO(b""), purpose="batch"),
                    await client.files.create(
                        file=('a"b', b"x", "text/plain"),
                        purpose="batch",
                        expires_after={"anchor": "created_at", "seconds": 3600},
                    ),
                ]
                assert [file.filename for file in made] == ["größe.bin", "upload", "upload", 'a"b']
                assert [file.bytes for file in made] == [768_000, 4, 0, 1]
                assert made[3].expires_at == made[3].created_at + 3600
                assert (await client.files.content(made[0].id)).content == path.read_bytes()
                assert (await client.files.retrieve(made[1].id)) == made[1]
                assert [file.id async for file in client.files.list(limit=2)] == [file.id for file in made]
                assert [file.id async for file in client.files.list(purpose="user_data")] == [made[0].id]
                assert (await client.files.delete(made[0].id)).deleted is True
                with pytest.raises(NotFoundError):
                    await client.files.content(made[0].id)

        run(main())

    def test_refused_lives(self) -> None:
        async def main() -> None:
            async with serve(demo_app()) as server, Client(api_base=server.base_url) as client:
                for life in ({"anchor": "created_at", "seconds": 5}, {"anchor": "now", "seconds": 3600}):
                    with pytest.raises(BadRequestError) as caught:
                        await client.files.create(file=b"x", purpose="batch", expires_after=life)  # type: ignore[arg-type]
                    assert (caught.value.param or "").startswith("expires_after.")

        run(main())

    def test_capped(self) -> None:
        """A full store refuses, forgets nothing, and has room again after a deletion."""
        store = FileStore(max_all=10)
        kept = store.keep("a", b"12345678", "batch")
        with pytest.raises(HTTPError) as caught:
            store.keep("b", b"123", "batch")
        assert caught.value.status == 413
        assert store.get(kept["id"])[1] == b"12345678"
        store.delete(kept["id"])
        assert store.keep("b", b"123", "batch")["bytes"] == 3

    def test_many_at_once(self) -> None:
        """Uploads side by side do not mix."""

        async def main() -> None:
            async with (
                serve(demo_app()) as server,
                Client(api_base=server.base_url, http_max_in_flight=20) as client,
            ):

                async def one(number: int) -> None:
                    data = bytes([number]) * (number * 1000)
                    made = await client.files.create(file=data, purpose="batch")
                    assert (await client.files.content(made.id)).content == data

                async with asyncio.TaskGroup() as group:
                    for number in range(20):
                        group.create_task(one(number))

        run(main())
