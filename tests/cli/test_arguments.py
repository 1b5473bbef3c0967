"""The arguments of options and commands: tools, schemas, images, and the errors for invalid ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openaiasync.chat.tools import Toolbox
from openaiasync.cli.arguments import add_tools, image_at, schema_in
from openaiasync.cli.console import CommandError

from .command import inside, one_line, spied

TOOLS = '''
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b

def untyped(a): return a

class Box:
    @staticmethod
    def inner(a: str) -> str:
        """Say it."""
        return a

number = 3
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with modules of tools."""
    (tmp_path / "my_own_tools.py").write_text(TOOLS, encoding="utf-8")
    (tmp_path / "my_broken_tools.py").write_text("1 / 0", encoding="utf-8")
    (tmp_path / "my_needy_tools.py").write_text("import not_installed_at_all", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    yield tmp_path
    for name in ("my_own_tools", "my_broken_tools", "my_needy_tools"):
        sys.modules.pop(name, None)


def test_tools(here: Path) -> None:
    """A tool is a function of a module in the current folder, or of a class in it."""
    box = Toolbox()
    add_tools(box.add, ["my_own_tools:add", "my_own_tools:Box.inner"])
    assert box.names == ["add", "inner"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("add", "module:function"),
        ("my_own_tools:", "module:function"),
        (":add", "module:function"),
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("my_needy_tools:f", "no module 'not_installed_at_all'"),
        ("my_broken_tools:f", "importing my_broken_tools failed: ZeroDivisionError"),
        ("my_own_tools:sub", "my_own_tools has no 'sub'"),
        ("my_own_tools:number", "the tool my_own_tools:number: "),
        ("my_own_tools:untyped", "the tool my_own_tools:untyped: "),
    ],
)
def test_invalid_tools(here: Path, place: str, words: str) -> None:
    """The error names the place as it was given, and what is wrong with it."""
    with pytest.raises(CommandError, match=words):
        add_tools(Toolbox().add, [place])


def test_two_tools_of_one_name(here: Path) -> None:
    """A second tool with the same name is refused."""
    with pytest.raises(CommandError, match="my_own_tools:add"):
        add_tools(Toolbox().add, ["my_own_tools:add", "my_own_tools:add"])


def test_a_schema(tmp_path: Path) -> None:
    """The schema is the object in the file."""
    path = tmp_path / "s.json"
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    path.write_text(json.dumps(schema), encoding="utf-8")
    assert schema_in(str(path)) == schema


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{'type': 'object'}", "is not JSON"),
        ("[1]", "not a JSON schema"),
        ('"object"', "not a JSON schema"),
        ('{"name": "Ada"}', "not a JSON schema"),
        ('{"$ref": "#/$defs/none"}', "cannot be used"),
        ('{"type": "object", "properties": 3}', "cannot be used"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_invalid_schemas(tmp_path: Path, text: str, words: str) -> None:
    """Text that is not JSON, JSON that is not a schema, and schemas that cannot be used are refused."""
    path = tmp_path / "s.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=words):
        schema_in(str(path))


@pytest.mark.parametrize("look", [schema_in, image_at])
def test_files_that_cannot_be_read(tmp_path: Path, look: Any) -> None:
    """A missing file and a folder are refused."""
    with pytest.raises(CommandError, match="cannot read"):
        look(str(tmp_path / "none"))
    with pytest.raises(CommandError, match="cannot read"):
        look(str(tmp_path))


def test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is an image by its bytes; URLs are left to the server; `~` is the home folder."""
    (tmp_path / "a.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    (tmp_path / "b.png").write_bytes(b"no image")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert image_at("~/a.txt") == str(tmp_path / "a.txt")
    assert image_at("HTTPS://example.org/a.png") == "HTTPS://example.org/a.png"
    with pytest.raises(CommandError, match="is not an image"):
        image_at(str(tmp_path / "b.png"))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("caht hi", "there is no command 'caht'; did you mean chat? Try 'openaiasync --help'."),
        ("hello", "a question is asked with: openaiasync chat hello."),
        ("chat hi --modle x", "there is no option --modle; did you mean --model? Try 'openaiasync chat --help'."),
        ("chat hi -q", "there is no option -q. Try"),
        ("chat hi -f -q", "there is no option -q. Try"),
        ("chat hi -m", "-m takes a value."),
        ("chat hi -m a -m b", "-m is given more than once."),
        ("chat hi -o temperature", "-o takes a name and a value: -o NAME VALUE."),
        ("chat hi --json=3", "--json takes no value, not '3'."),
        ("chat hi --timeout -1", "--timeout must be above 0, not -1."),
        ("embed --batch x", "--batch takes a whole number, not 'x'."),
        ("embed --batch 0", "--batch must be at least 1, not 0."),
        ("embed --format jsno", "--format takes text, csv, tsv, json or jsonl, not 'jsno'; did you mean json?"),
        ("run rows.jsonl", "run needs --out."),
        ("logs lst", "logs does not take lst; did you mean list?"),
        ("keys sett x secret", "keys does not take sett; did you mean set?"),
        ("keys set x secret", "a key is not an argument"),
        ("similar v.db two words", "openaiasync similar v.db 'two words'"),
        ("image blue --option n 2", "--option n: use --number"),
        ("embed hello world", "echo 'hello world' | openaiasync embed"),
        (
            "similar cat --store v.db",
            "the text the second: openaiasync similar v.db cat",
        ),
        ("run none.csv -o out.csv", "cannot read none.csv: No such file or directory"),
        (
            "chat hi --base-url localhost:9/v1",
            "the API base (--base-url) must be an absolute",
        ),
    ],
)
def test_advice_for_a_mistyped_line(line: str, text: str) -> None:
    """A mistake is named once, with what to type instead."""
    done = inside(*line.split())
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert text in done.stderr
    assert "secret" not in done.stderr


def test_a_parameter_with_an_equals_sign() -> None:
    """`-o NAME=VALUE` is `-o NAME VALUE`; values keep their own equals signs, and so does the text after `--`."""
    with spied() as (server, spy):
        where = ("-m", "demo-chat", "--no-log", "--base-url", server.base_url)
        line = ("-o", "temperature=0.5", "--option=seed=3", "-o", "user", "a=b", "-o", "safety_identifier=c=d")
        done = inside("chat", *line, *where, "--", "say x=1")
    assert done.returncode == 0, done.stderr
    sent = spy.bodies("/chat/completions")[0]
    assert (sent["temperature"], sent["seed"], sent["user"], sent["safety_identifier"]) == (0.5, 3, "a=b", "c=d")
    assert sent["messages"][-1]["content"] == "say x=1"
