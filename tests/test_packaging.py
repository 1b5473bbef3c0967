"""What is installed and what importing costs: metadata, the wheel alone, lazy imports, the official client."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
HEAVY = re.compile(r"^(asyncio|ssl|_ssl|socket|selectors|http|email|openaiasync\.(transport|calls|client))(\.|$)")


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running `code`."""
    program = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_core_depends_on_msgspec_alone() -> None:
    """Without extras, one dependency; the command line and other parts have theirs in extras, developers in groups."""
    requires = importlib.metadata.requires("openaiasync") or []
    core = [re.split(r"[ <>=!~\[;]", line)[0] for line in requires if "extra ==" not in line]
    assert core == ["msgspec"]
    extras = importlib.metadata.metadata("openaiasync").get_all("Provides-Extra") or []
    assert {"cli", "realtime", "openai", "redis", "ray"} <= set(extras)
    assert not {"test", "dev", "docs"} & set(extras)


def test_importing_loads_nothing_heavy() -> None:
    """`import openaiasync` loads no asyncio, no ssl, no transport: a program pays when it makes a client."""
    heavy = {name for name in modules_after("import openaiasync") if HEAVY.match(name)}
    assert heavy - {name for name in modules_after("") if HEAVY.match(name)} == set()


def test_a_client_loads_what_it_needs() -> None:
    """The names at the top are the real ones: asking for `Client` brings the client and asyncio in."""
    loaded = modules_after("import openaiasync; openaiasync.Client(api_base='http://127.0.0.1:1/v1')")
    assert {"asyncio", "openaiasync.client"} <= loaded


def test_every_public_name_is_there() -> None:
    """`__all__` has the names of `dir()` and of a star import, and each name can be imported."""
    import openaiasync

    assert len(set(openaiasync.__all__)) == len(openaiasync.__all__)
    assert {"AsyncOpenAI", "Client", "OpenAIError", "__version__"} <= set(openaiasync.__all__)
    for name in openaiasync.__all__:
        assert getattr(openaiasync, name) is not None
    assert set(openaiasync.__all__) <= set(dir(openaiasync))
    assert openaiasync.__version__ == importlib.metadata.version("openaiasync")
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        openaiasync.Cleint  # noqa: B018  # type: ignore[attr-defined]


# ---------------------------------------------------------------- built by scripts/check, which says where


def built(pattern: str) -> Path:
    (path,) = Path(os.environ["OPENAIASYNC_DIST"]).glob(pattern)
    return path


@pytest.mark.dist
def test_the_wheel_is_typed_and_holds_the_package_alone() -> None:
    """The wheel has the type marker, licence and entry point, and nothing outside the package."""
    with zipfile.ZipFile(built("*.whl")) as wheel:
        names = set(wheel.namelist())
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert b"openaiasync = openaiasync.cli:main" in wheel.read(entry_points)
    assert "openaiasync/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"openaiasync"}
    shipped = {f"openaiasync/{path}" for path in package_files(REPOSITORY / "src" / "openaiasync")}
    assert shipped <= names


@pytest.mark.dist
def test_the_sdist_can_be_tested() -> None:
    """The source archive holds sources, tests, tools and docs, and no environment or cache."""
    with tarfile.open(built("*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "src/openaiasync/py.typed",
        "tests/conftest.py",
        "scripts/check",
    ):
        assert wanted in names
    assert not [name for name in names if name.startswith((".venv", ".git/")) or "__pycache__" in name]


def package_files(package: Path) -> list[str]:
    return [path.relative_to(package).as_posix() for path in package.rglob("*.py")]


@pytest.mark.dist
@pytest.mark.timeout(300)
def test_the_wheel_alone_works(tmp_path: Path) -> None:
    """In an environment with nothing else: msgspec alone comes along, it imports, and the command names its extra."""
    home = tmp_path / "alone"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")

    def ask(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(scripts / program), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)

    assert (
        ask("python", "-m", "pip", "install", "-q", "--disable-pip-version-check", str(built("*.whl"))).returncode == 0
    )
    listed = json.loads(ask("python", "-m", "pip", "list", "--format", "json", "--disable-pip-version-check").stdout)
    assert {row["name"] for row in listed} - {"pip", "setuptools"} == {"openaiasync", "msgspec"}
    program = "from openaiasync import AsyncOpenAI, Client, OpenAIError\nprint(Client.__name__, AsyncOpenAI.__name__)"
    done = ask("python", "-W", "error", "-c", program)
    assert (done.stdout.split(), done.stderr) == (["Client", "AsyncOpenAI"], "")
    done = ask("openaiasync", "demo")
    assert done.returncode != 0
    wheel = built("*.whl").as_uri()
    assert f"uvx --from 'openaiasync[cli] @ {wheel}' openaiasync demo" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- with the official client installed


@pytest.mark.peers
@pytest.mark.timeout(300)
def test_importing_costs_a_fifth_of_the_official_client(tmp_path: Path) -> None:
    """CPU time of `import openaiasync; openaiasync.Client` against `import openai; openai.AsyncOpenAI`, interleaved."""
    ours = "import openaiasync; openaiasync.Client"
    theirs = "import openai; openai.AsyncOpenAI"
    nothing = "pass"
    for code in (ours, theirs):  # write the bytecode first
        cpu_seconds(code, tmp_path)
    rounds = [[cpu_seconds(code, tmp_path) for code in (nothing, ours, theirs)] for _ in range(7)]
    # The least of each: whatever else the machine does can only add to it.
    bare, our_time, their_time = map(min, zip(*rounds, strict=True))
    ratio = (our_time - bare) / (their_time - bare)
    print(f"\nimport, CPU ms: {1000 * (our_time - bare):.0f}; official {1000 * (their_time - bare):.0f}; {ratio:.3f}")
    assert our_time < their_time / 5, (bare, our_time, their_time)


def cpu_seconds(code: str, bytecode: Path) -> float:
    """User and system time of a fresh interpreter that runs `code`, with compiled modules kept in `bytecode`."""
    import resource

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=REPOSITORY, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
