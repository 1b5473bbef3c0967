"""Kept keys and where they are sent, short names of models, and the files of settings."""

from __future__ import annotations

import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openaiasync.cli.folders import SettingsFile
from openaiasync.cli.key_store import find_key, stored_name
from openaiasync.demo import demo_app
from openaiasync.server import serve, start_in_thread

from .command import COMMAND, call, environment, inside, one_line, spied

pytestmark = pytest.mark.commands

KEY, OTHER = "sk-kept-0123456789abcdef", "sk-other-0123456789abcdef"


@pytest.fixture(autouse=True)
def settings(tmp_path: Path) -> Path:
    return tmp_path / "config" / "openaiasync"


def keep(name: str, key: str = KEY) -> None:
    done = inside("keys", "set", name, stdin=f"{key}\n".encode())
    assert done.returncode == 0, done.stderr
    assert key not in done.stdout + done.stderr


def test_a_kept_key_is_used() -> None:
    """For its server only, and only if neither an option nor the environment has one."""
    with start_in_thread(serve(demo_app(api_key=KEY))) as server, spied() as (another, spy):
        keep(server.base_url)
        where = ("--base-url", server.base_url)
        assert inside("models", *where).returncode == 0
        assert inside("chat", "say one", "-m", "demo-chat", *where).stdout == "one\n"
        assert inside("models", *where, "--api-key", OTHER).returncode == 1
        assert call("models", *where, OPENAI_API_KEY=OTHER).returncode == 1
        assert inside("models", "--base-url", another.base_url).returncode == 0
        assert "authorization" not in spy.headers[-1]
        keep("work", OTHER)
        assert inside("models", "--base-url", another.base_url, "--key", "work").returncode == 0
        assert spy.headers[-1]["authorization"] == f"Bearer {OTHER}"
    missing = inside("models", "--base-url", "http://127.0.0.1:9/v1", "--key", "home")
    assert missing.returncode == 2
    assert "openaiasync keys set home" in missing.stderr


def test_the_file_of_keys(settings: Path) -> None:
    """It is readable by its owner only, also if it was not before; the list shows names and no keys."""
    keep("openai")
    file = settings / "keys.json"
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)
        assert "chmod 600" in inside("models", "--key", "openai", "--base-url", "http://127.0.0.1:9/v1").stderr
    keep("work", OTHER)
    assert sys.platform == "win32" or stat.S_IMODE(file.stat().st_mode) == 0o600
    assert inside("keys", "list").stdout == "https://api.openai.com/v1\tfile\nwork\tfile\n"
    assert json.loads(inside("keys", "list", "--json").stdout)[1] == {"name": "work", "in": "file"}
    assert inside("keys", "path").stdout == f"{file}\n"
    assert inside("keys", "remove", "openai").returncode == 0
    assert inside("keys", "list").stdout == "work\tfile\n"
    assert inside("keys", "remove", "openai").returncode == 2
    assert KEY not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("key", ["", "two words", "tab\tkey", "schlüssel", "line\nbreak"])
def test_invalid_keys(key: str, settings: Path) -> None:
    """It is refused without being repeated, and nothing is written."""
    done = inside("keys", "set", "work", stdin=key.encode())
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert not key or key not in done.stderr
    assert not (settings / "keys.json").exists()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("openai", "https://api.openai.com/v1"),
        ("HTTPS://API.example.org:443/v1/", "https://api.example.org/v1"),
        ("http://user:pass@host:8000/v1?x=1", "http://host:8000/v1"),
        ("http://[::1]:80", "http://[::1]"),
        ("work", "work"),
    ],
)
def test_the_name_of_an_address(given: str, name: str) -> None:
    """One server has one name, without user, query, default port and final slash."""
    assert stored_name(given) == name


def test_an_address_above() -> None:
    """A key holds for what is below its address on the same host, scheme and port; the nearest one wins."""
    keep("https://a.example.org")
    keep("https://a.example.org/openai/v1", OTHER)
    assert find_key("https://a.example.org/v1/") == KEY
    assert find_key("https://A.example.org/openai/v1") == OTHER
    assert find_key("https://a.example.org/openai/v1/more") == OTHER
    for other in ("http://a.example.org/v1", "https://b.example.org", "https://a.example.org:8443/v1",
                  "https://a.example.org.evil.org/v1", "nonsense"):  # fmt: skip
        assert find_key(other) is None


KEYRING = """
import json, os
class Ring:
    priority = {priority}
def get_keyring(): return Ring()
def _all():
    try: return json.load(open(os.environ["RING"]))
    except FileNotFoundError: return {{}}
def _write(keys): json.dump(keys, open(os.environ["RING"], "w"))
def set_password(service, name, key):
    if os.environ.get("RING_LOCKED"): raise RuntimeError("locked")
    _write({{**_all(), f"{{service}} {{name}}": key}})
def get_password(service, name):
    if os.environ.get("RING_LOCKED"): raise RuntimeError("locked")
    return _all().get(f"{{service}} {{name}}")
def delete_password(service, name): keys = _all(); del keys[f"{{service}} {{name}}"]; _write(keys)
"""


@pytest.mark.parametrize("priority", [5, 0])
def test_a_keyring(priority: int, tmp_path: Path, settings: Path) -> None:
    """Keys go into the system's keyring if it has a usable backend, and are not in the file then."""
    (tmp_path / "ring").mkdir()
    (tmp_path / "ring" / "keyring.py").write_text(KEYRING.format(priority=priority), encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "ring"), os.environ.get("PYTHONPATH", "")])
    env = {"PYTHONPATH": path, "RING": str(tmp_path / "ring.json")}
    with start_in_thread(serve(demo_app(api_key=KEY))) as server:
        where = {"OPENAI_BASE_URL": server.base_url, **env}
        done = call("keys", "set", stdin=KEY.encode(), **where)
        assert done.returncode == 0, done.stderr
        in_file = KEY in (settings / "keys.json").read_text(encoding="utf-8")
        assert in_file == (priority == 0)
        assert (tmp_path / "ring.json").exists() == (priority > 0)
        assert call("models", **where).returncode == 0
        if priority:
            locked = call("models", RING_LOCKED="1", **where)
            assert locked.returncode == 2
            assert "the keyring does not give the key" in locked.stderr
            assert call("keys", "list", **where).stdout == f"{server.base_url}\tkeyring\n"
            assert call("keys", "remove", server.base_url, **where).returncode == 0
            assert json.loads((tmp_path / "ring.json").read_text(encoding="utf-8")) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_key_is_typed_unseen() -> None:
    """On a terminal the key is typed without an echo."""
    from .seat import pexpect

    child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], "keys", "set", "work"], env=environment(), encoding="utf-8")
    child.expect("Key for work: ", timeout=30)
    child.send(f"{KEY}\r")
    child.expect(pexpect.EOF, timeout=30)
    child.close()
    assert child.exitstatus == 0
    assert KEY not in child.before
    assert inside("keys", "list").stdout == "work\tfile\n"


def test_aliases() -> None:
    """A short name stands for a model in every command, with its server and key; options of the command win."""
    with spied() as (server, spy), spied() as (another, other_spy):
        keep("work", OTHER)
        assert (
            inside("aliases", "set", "d", "demo-chat", "--base-url", server.base_url, "--key", "work").returncode == 0
        )
        assert inside("aliases", "set", "e", "demo-embed", "--base-url", server.base_url).returncode == 0
        assert inside("aliases", "set", "plain", "demo-chat").returncode == 0
        assert inside("chat", "say one", "-m", "d").stdout == "one\n"
        assert spy.headers[-1]["authorization"] == f"Bearer {OTHER}"
        assert inside("embed", "-m", "e", stdin=b"one\n").returncode == 0
        assert inside("responses", "say two", "-m", "d").stdout == "two\n"
        assert inside("chat", "say one", "-m", "d", "--base-url", another.base_url).returncode == 0
        assert inside("chat", "say one", "-m", "plain", "--base-url", another.base_url).returncode == 0
        assert inside("chat", "--save", "t", "-s", "Be brief.", "-m", "d").returncode == 0
    assert {body["model"] for body in other_spy.bodies("/chat/completions")} == {"demo-chat"}
    assert len(other_spy.bodies("/chat/completions")) == 2
    assert all("authorization" not in fields for fields in other_spy.headers), "the key is for another server"
    assert inside("aliases", "list").stdout.splitlines()[0] == f"d\tdemo-chat\t{server.base_url}\twork"
    assert json.loads(inside("aliases", "list", "--json").stdout)["plain"]["model"] == "demo-chat"
    assert inside("aliases", "remove", "d").returncode == 0
    assert inside("aliases", "remove", "d").returncode == 2
    assert inside("aliases", "set", "x", "y", "--base-url", "nonsense").returncode == 2


def test_templates_are_listed_shown_and_removed(settings: Path) -> None:
    """Templates have names; removing an unknown one is wrong usage."""
    inside("chat", "Sum it up.", "--save", "sum")
    assert inside("templates", "list").stdout == "sum\n"
    assert 'prompt = "Sum it up."' in inside("templates", "show", "sum").stdout
    assert inside("templates", "path").stdout == f"{settings / 'templates'}\n"
    assert inside("templates", "remove", "sum").returncode == 0
    assert inside("templates", "remove", "sum").returncode == 2
    assert inside("templates", "show", "sum").returncode == 2


def test_a_key_in_place_of_its_name() -> None:
    """`--key` is a name; a key that is given there is not printed."""
    done = inside("chat", "hi", "-m", "m", "--key", "sk-0123456789abcdef", "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert "--api-key" in done.stderr
    assert "0123456789" not in done.stderr


def test_groups_list_without_a_subcommand() -> None:
    """`keys`, `aliases` and `templates` alone are the lists."""
    inside("keys", "set", "mine", stdin=b"sk-0123456789")
    inside("aliases", "set", "mini", "demo-chat")
    inside("chat", "Sum it up.", "--save", "sum")
    for group in ("keys", "aliases", "templates"):
        done = inside(group)
        assert done.returncode == 0
        assert done.stdout == inside(group, "list").stdout != ""


def test_settings_that_change_at_the_same_time() -> None:
    """No change is lost, and the file is whole at every moment."""
    file = SettingsFile("numbers.json")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: file.change(lambda settings: settings.update({str(number): number})), range(40)))
    assert file.read() == {str(number): number for number in range(40)}


@pytest.mark.parametrize("text", ["{", "[1]", '"text"'])
def test_a_damaged_file_of_settings(text: str, settings: Path) -> None:
    """The error names the file; it is not replaced."""
    settings.mkdir(parents=True)
    (settings / "keys.json").write_text(text, encoding="utf-8")
    done = inside("keys", "set", "work", stdin=KEY.encode())
    assert done.returncode == 2
    assert "keys.json" in done.stderr
    assert (settings / "keys.json").read_text(encoding="utf-8") == text
