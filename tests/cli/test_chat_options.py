"""The options of a question: parameters of the API, header fields, fragments, pictures, sounds, and the output."""

from __future__ import annotations

import json
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from .command import Answer, inside, one_line, refused, spied
from .test_chat import chunk, streamed

pytestmark = pytest.mark.commands

MODEL = ("-m", "demo-chat")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def anything(text: str = "Fine.") -> Any:
    """Answer every chat with this text."""
    return lambda path, body: streamed(chunk(text, "stop"), b"data: [DONE]\n\n")


def sent(*arguments: str, stdin: bytes = b"") -> dict[str, Any]:
    """The body of the request that a command makes."""
    with spied(anything()) as (server, spy):
        done = inside("chat", *arguments, *MODEL, "--base-url", server.base_url, stdin=stdin)
    assert done.returncode == 0, done.stderr
    (body,) = spy.bodies("/chat/completions")
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.5", 0.5),
        ("temperature", "1", 1),
        ("frequency_penalty", "-1", -1),
        ("max-tokens", "20", 20),
        ("seed", "null", None),
        ("user", "42", "42"),
        ("user", "null", "null"),
        ("stop", "END", "END"),
        ("stop", '["a", "b"]', ["a", "b"]),
        ("stop", "[not a list", "[not a list"),
        ("logprobs", "true", True),
        ("parallel_tool_calls", "off", False),
        ("logit_bias", '{"50256": -100}', {"50256": -100}),
        ("tool_choice", "none", "none"),
        ("reasoning_effort", "low", "low"),
    ],
)
def test_a_parameter_has_the_type_that_the_api_gives_it(name: str, text: str, value: object) -> None:
    """`-o NAME VALUE` is sent as a number, boolean, list or text as the parameter is described, hyphens allowed."""
    body = sent("hello", "-o", name, text)
    assert body[name.replace("-", "_")] == value
    assert type(body[name.replace("-", "_")]) is type(value)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("temperature", "warm"), "-o temperature takes a number, not 'warm'"),
        (("temperature", "nan"), "takes a number"),
        (("seed", "1.5"), "takes an integer"),
        (("logprobs", "maybe"), "takes true or false"),
        (("logit_bias", "[1]"), "takes a JSON object"),
        (("modalities", '"text"'), "takes a JSON array"),
        (("model", "x"), "--model"),
        (("stream", "true"), "--no-stream"),
        (("messages", "[]"), "--session"),
        (("n", "2"), "one answer"),
        (("tools", "[]"), "--tool"),
        (("timeout", "3"), "--timeout"),
        (("extra_headers", "{}"), "--header"),
    ],
)
def test_a_wrong_parameter(pair: tuple[str, str], words: str) -> None:
    """The error names the option and what to do; nothing is sent."""
    with spied() as (server, spy):
        done = inside("chat", "hello", "-o", *pair, *MODEL, "--base-url", server.base_url)
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert words in done.stderr
    assert spy.requests == []


def test_parameters_of_other_servers() -> None:
    """A parameter that OpenAI's API lacks is sent as JSON or text; one that looks mistyped gets a hint."""
    with spied(anything()) as (server, spy):
        options = ("-o", "top_k", "40", "-o", "grammar", "root ::= x", "-o", "temprature", "1")
        body = ("--extra-body", '{"min_p": 0.1, "top_k": 5}')
        done = inside("chat", "hello", *options, *body, *MODEL, "--base-url", server.base_url)
    assert done.returncode == 0, done.stderr
    (request,) = spy.bodies("/chat/completions")
    assert (request["top_k"], request["min_p"], request["temprature"]) == (5, 0.1, 1)
    assert request["grammar"] == "root ::= x"
    assert "did you mean 'temperature'" in done.stderr
    assert "grammar" not in done.stderr


def test_an_extra_body_in_a_file(tmp_path: Path) -> None:
    """`@FILE` is the file's JSON object."""
    (tmp_path / "extra.json").write_text('{"min_p": 0.25}', encoding="utf-8")
    assert sent("hello", "--extra-body", f"@{tmp_path / 'extra.json'}")["min_p"] == 0.25


@pytest.mark.parametrize("given", ["[1]", "{", "@missing.json"])
def test_a_wrong_extra_body(given: str) -> None:
    """Anything else is wrong usage."""
    done = inside("chat", "hello", "--extra-body", given, *MODEL, "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert one_line(done.stderr)


def test_header_fields() -> None:
    """`--header` goes with every request of every command, and no error shows its value."""
    secret = "sk-header-0123456789"

    def answer(path: str, body: Any) -> Answer:
        return refused(f"no {secret}") if path.endswith("/chat/completions") else None

    with spied(answer) as (server, spy):
        headers = ("--header", f"X-Api-Key: {secret}", "--header", "X-Team:docs", "--base-url", server.base_url)
        assert inside("models", *headers).returncode == 0
        done = inside("chat", "hello", *headers, *MODEL)
    assert [(fields["x-api-key"], fields["x-team"]) for fields in spy.headers] == [(secret, "docs")] * 2
    assert done.returncode == 1
    assert secret not in done.stderr
    wrong = inside("models", "--header", "no colon", "--base-url", "http://127.0.0.1:9/v1")
    assert wrong.returncode == 2
    assert "--header" in wrong.stderr


# ---------------------------------------------------------------- fragments


@contextmanager
def web(pages: dict[str, bytes]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A web server with these pages; ``/old/x`` leads to ``/x``. Its address, and the header fields it was sent."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({**{name.lower(): value for name, value in self.headers.items()}, ":path": self.path})
            moved = self.path.startswith("/old/")
            body = b"" if moved else pages[self.path]
            self.send_response(302 if moved else 200)
            if moved:
                self.send_header("Location", self.path.removeprefix("/old"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def test_fragments_come_first(tmp_path: Path) -> None:
    """Fragments stand in front of the question in their order, without byte order marks."""
    (tmp_path / "a.txt").write_bytes("\ufeffFirst text.\n".encode())
    (tmp_path / "b.txt").write_text("Second text.", encoding="utf-8")
    files = ("-f", str(tmp_path / "a.txt"), "--fragment", str(tmp_path / "b.txt"))
    body = sent("Compare them.", *files)
    assert body["messages"][0]["content"] == "First text.\n\nSecond text.\n\nCompare them."
    assert sent(*files)["messages"][0]["content"] == "First text.\n\nSecond text."


def test_a_fragment_on_stdin(tmp_path: Path) -> None:
    """`-f -` puts the piped text in front; it is not the question as well."""
    body = sent("Compare them.", "-f", "-", stdin=b"Piped text.\n")
    assert body["messages"][0]["content"] == "Piped text.\n\nCompare them."


def test_a_fragment_of_a_page() -> None:
    """A URL is downloaded, redirects followed, without the key and the header fields of the API."""
    with web({"/page?x=1": b"The page.\n"}) as (site, seen), spied(anything()) as (server, spy):
        options = ("--api-key", "sk-not-for-others", "--header", "X-Team: docs", "--base-url", server.base_url)
        done = inside("chat", "Sum it up.", "-f", f"{site}/old/page?x=1#part", *options, *MODEL)
    assert done.returncode == 0, done.stderr
    assert spy.bodies("/chat/completions")[0]["messages"][0]["content"] == "The page.\n\nSum it up."
    assert [fields[":path"] for fields in seen] == ["/old/page?x=1", "/page?x=1"]
    assert all("authorization" not in fields and "x-team" not in fields for fields in seen)


@pytest.mark.parametrize(
    ("source", "words", "code"),
    [
        ("missing.txt", "cannot read missing.txt", 2),
        ("ftp://example.org/x", "only http and https", 2),
        ("file:///etc/hosts", "only http and https", 2),
        ("http://127.0.0.1:9/x", "cannot read http://127.0.0.1:9/x", 1),
        ("bytes", "is not UTF-8 text", 2),
    ],
)
def test_a_wrong_fragment(source: str, words: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says which fragment cannot be read and why; nothing is sent."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with spied() as (server, spy):
        done = inside("chat", "hello", "-f", source, *MODEL, "--base-url", server.base_url)
    assert done.returncode == code, done.stderr
    assert one_line(done.stderr)
    assert words in done.stderr
    assert spy.requests == []


def test_a_page_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The download stops at the limit."""
    monkeypatch.setattr("openaiasync.cli.fragments.LARGEST_PAGE", 1000)
    with web({"/": b"x" * 2000}) as (site, _):
        done = inside("chat", "hello", "-f", f"{site}/", *MODEL, "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert "over 1000 bytes" in done.stderr


# ---------------------------------------------------------------- pictures and sounds


def test_a_picture_on_stdin() -> None:
    """`-i -` takes the piped bytes as the picture, and the argument as the question."""
    content = sent("What is it?", "-i", "-", stdin=PNG)["messages"][0]["content"]
    assert content[0] == {"type": "text", "text": "What is it?"}
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_sound(tmp_path: Path) -> None:
    """`--audio` sends a WAV file with its format."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    content = sent("What is said?", "--audio", str(tmp_path / "a.wav"))["messages"][0]["content"]
    assert content[1]["input_audio"]["format"] == "wav"
    piped = sent("What is said?", "--audio", "-", stdin=(tmp_path / "a.wav").read_bytes())
    assert piped["messages"][0]["content"][1] == content[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("hello", "-i", "-"), "stdin is not an image"),
        (("hello", "--audio", "-"), "stdin is not a sound"),
        (("hello", "-f", "-", "-i", "-"), "only once"),
        (("hello", "--audio", "none.wav"), "cannot read none.wav"),
        (("hello", "--schema", '{"type": "object"}', "-o", "response_format", "{}"), "leave out -o response_format"),
        (("hello", "--schema", '{"types": 1}'), "the schema in --schema is JSON, but not a JSON schema"),
    ],
)
def test_what_cannot_be_sent(options: tuple[str, ...], words: str) -> None:
    """Wrong contents, two readers of stdin, and options that contradict each other are wrong usage."""
    done = inside("chat", *options, *MODEL, "--base-url", "http://127.0.0.1:9/v1", stdin=b"some text")
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert words in done.stderr


def test_a_picture_needs_a_question() -> None:
    """A picture on stdin excludes a conversation."""
    done = inside("chat", "-i", "-", *MODEL, "--base-url", "http://127.0.0.1:9/v1", stdin=PNG)
    assert done.returncode == 2
    assert "give the question as an argument" in done.stderr


# ---------------------------------------------------------------- how the answer is shown


@pytest.mark.parametrize(
    ("answer", "shown", "noted"),
    [
        ("Look:\n```sh\nls\n```\nor\n```py\nprint(1)\n```\nDone.", "print(1)\n", False),
        ("1. Do:\n   ~~~\n   a\n     b\n   ~~~\n", "a\n  b\n", False),
        ("```\nnever closed", "never closed\n", False),
        ("No code.", "No code.\n", True),
    ],
)
def test_only_the_last_code_block(answer: str, shown: str, noted: bool) -> None:
    """`-x` prints the content of the last code block; an answer without one is printed whole, with a note."""
    with spied(anything(answer)) as (server, _):
        done = inside("chat", "hello", "-x", *MODEL, "--base-url", server.base_url)
    assert done.stdout == shown
    assert ("no code block" in done.stderr) == noted


@pytest.mark.parametrize("flag", [[], ["--no-stream"], ["--json"], ["-x"]])
def test_usage(flag: list[str]) -> None:
    """`-u` prints the numbers of tokens on stderr, however the answer is shown."""
    with spied() as (server, _):
        done = inside("chat", "say one two", "-u", *flag, *MODEL, "--base-url", server.base_url)
    assert done.returncode == 0
    assert "received" in done.stderr.splitlines()[-1]
    assert "tokens sent" in done.stderr.splitlines()[-1]


def test_not_a_stream() -> None:
    """`--no-stream` requests the answer whole, and prints the same."""
    with spied() as (server, spy):
        done = inside("chat", "say one two", "--no-stream", *MODEL, "--base-url", server.base_url)
    assert done.stdout == "one two\n"
    assert not spy.bodies("/chat/completions")[0].get("stream")


def test_options_hold_in_a_session() -> None:
    """Parameters go with the question of their command, in a session that is continued, too."""
    with spied(anything()) as (server, spy):
        where = ("--session", "a", *MODEL, "--base-url", server.base_url)
        inside("chat", "one", *where)
        inside("chat", "two", "-o", "temperature", "0", "-o", "top_k", "3", *where)
        inside("chat", "three", *where)
    seen = [(body.get("temperature"), body.get("top_k")) for body in spy.bodies("/chat/completions")]
    assert seen == [(None, None), (0, 3), (None, None)]


# ---------------------------------------------------------------- templates


def test_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--save` keeps the question, system prompt, model and options and sends nothing; `-t` asks with them."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    (tmp_path / "note.txt").write_text("A note.", encoding="utf-8")
    with spied() as (server, spy):
        kept = ("-s", 'You speak "$language".', "-o", "temperature", "0", "-o", "top_k", "7", "-f", "note.txt")
        with monkeypatch.context() as here:
            here.chdir(tmp_path)
            question = "Say in $words words:\n$input\n$$5"
            done = inside("chat", question, *kept, *MODEL, "--save", "say it", "-p", "words", "3")
        assert done.returncode == 0, done.stderr
        assert "-p language VALUE" in done.stderr
        assert spy.requests == []
    file = tmp_path / "config" / "openaiasync" / "templates" / "say it.toml"
    assert file.stat().st_mode & 0o077 == 0
    with spied(anything()) as (server, spy):
        used = ("-t", "say it", "-p", "language", "Italian", "--base-url", server.base_url)
        assert inside("chat", "hello", *used).returncode == 0
        assert inside("chat", *used, "-p", "words", "9", "-o", "temperature", "1", stdin=b"piped").returncode == 0
        assert inside("chat", "hello", "-t", str(file), *used[2:]).returncode == 0
        missing = inside("chat", "hello", "-t", "say it", "--base-url", server.base_url)
    first, second, third = spy.bodies("/chat/completions")
    assert first["messages"] == [
        {"role": "system", "content": 'You speak "Italian".'},
        {"role": "user", "content": "A note.\n\nSay in 3 words:\nhello\n$5"},
    ]
    assert (first["model"], first["temperature"], first["top_k"]) == ("demo-chat", 0, 7)
    assert second["messages"][1]["content"] == "A note.\n\nSay in 9 words:\npiped\n$5"
    assert second["temperature"] == 1
    assert third == first
    assert missing.returncode == 2
    assert "needs -p language VALUE" in missing.stderr
    with spied() as (server, spy):
        inside("chat", "--save", "fit", "--schema", json.dumps(schema), *MODEL)
        done = inside("chat", "hello", "-t", "fit", "--base-url", server.base_url)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        'quotes " and """ three',
        "back\\slash \\n",
        "two\nlines",
        "\n\nends\n\n",
        "tab\tdel\x7f",
        "é😀",
        "a\r\nb",
    ],
)
def test_any_text_survives_a_template(text: str) -> None:
    """A saved template is read unchanged."""
    from openaiasync.cli.templates import Template, read_template, save_template

    template = Template(prompt=text, system=text, options={"a b": text, "n": "1.5"}, tools=(text,))
    save_template("t", template)
    assert read_template("t") == template


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (None, ["-t", "sumarise"], "did you mean 'summarise'"),
        (None, ["-t", "a/b"], "not a path"),
        ("prompt = ", ["-t", "t"], "is not TOML"),
        ("prompt = 3", ["-t", "t"], "wrong type"),
        ('prmpt = "x"', ["-t", "t"], "unknown entry 'prmpt'"),
        ('prompt = "$a"', ["-t", "t", "-p", "b", "1"], "no parameter 'b'"),
        ('prompt = "$a $b"', ["-t", "t", "-p", "b", "1"], "needs -p a VALUE"),
        ('[options]\ntemperature = "warm"', ["-t", "t"], "-o temperature takes a number"),
        (None, ["-p", "a", "1"], "-t"),
    ],
)
def test_a_wrong_template(text: str | None, arguments: list[str], words: str, tmp_path: Path) -> None:
    """Each ends with one line that says what is wrong; nothing is sent."""
    folder = tmp_path / "config" / "openaiasync" / "templates"
    folder.mkdir(parents=True)
    (folder / "summarise.toml").write_text('prompt = "Sum it up."', encoding="utf-8")
    if text is not None:
        (folder / "t.toml").write_text(text, encoding="utf-8")
    done = inside("chat", "hello", *arguments, *MODEL, "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 2, done.stderr
    assert one_line(done.stderr)
    assert words in done.stderr


def test_tools_by_the_option_for_templates() -> None:
    """`-t module:function` still names a tool, and the note says which option does now."""
    done = inside("chat", "hello", "-t", "no_such_module:f", *MODEL, "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert "-T no_such_module:f names a tool" in done.stderr
    assert "there is no module 'no_such_module'" in done.stderr


def test_a_prompt_without_input(tmp_path: Path) -> None:
    """The question follows it; without a question the prompt is asked alone. One with $input needs a question."""
    folder = tmp_path / "config" / "openaiasync" / "templates"
    folder.mkdir(parents=True)
    (folder / "joke.toml").write_text('prompt = "Tell a joke."', encoding="utf-8")
    (folder / "about.toml").write_text('prompt = "Tell a joke about $input."', encoding="utf-8")
    assert sent("-t", "joke")["messages"][0]["content"] == "Tell a joke."
    assert sent("Be short.", "-t", "joke")["messages"][0]["content"] == "Tell a joke.\n\nBe short."
    done = inside("chat", "-t", "about", *MODEL, "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert "needs a question" in done.stderr
