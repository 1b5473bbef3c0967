"""Files for the environments of agents, and artifacts of a turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import openaiasync
from conftest import run
from forms import parts_of
from openaiasync import AsyncOpenAI
from openaiasync.lib.beta.agents import AgentFilePreparationError, AgentFileStagingError, PreparedAgentFiles
from scripted import Scripted, Seen, answer, json_answer, scripted

Fail = Callable[[Seen, int], bool]


@asynccontextmanager
async def serving(fail: Fail = lambda seen, count: False) -> AsyncIterator[tuple[Any, Scripted]]:
    """`client.beta.agents` of a server that keeps nothing; `fail` tells which of its requests it refuses."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        count = len(server.seen)
        if fail(seen, count):
            writer.write(json_answer({"error": {"message": "m"}}, 413))
        elif seen.target.endswith("/content"):
            writer.write(answer(b"made", content_type="text/plain"))
        elif seen.target.endswith("/artifacts"):
            rows = [("a", "t1", "/x"), ("b", "t2", "/x"), ("c", "t1", "/y"), ("d", "t1", "/y")]
            data = [{"id": id_, "session_id": "s", "turn_id": turn, "path": path} for id_, turn, path in rows]
            writer.write(json_answer({"object": "list", "data": data, "has_more": False}))
        else:
            writer.write(json_answer({"id": f"file-{count}", "object": "file"}))

    async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client.beta.agents, server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src/deep").mkdir(parents=True)
    (tmp_path / "src/a.py").write_bytes(b"a")
    (tmp_path / "src/deep/b.py").write_bytes(b"b")
    (tmp_path / "src/c.txt").write_bytes(b"c")
    return tmp_path / "src"


def forms(server: Scripted) -> list[tuple[str | None, bytes, bytes]]:
    """Name, content and purpose of each upload."""
    found: list[tuple[str | None, bytes, bytes]] = []
    for seen in server.seen:
        parts = {part.name: part for part in parts_of(seen.headers["content-type"], seen.body)}
        found.append((parts["file"].file_name, parts["file"].content, parts["purpose"].content))
    return found


def test_files_of_a_mapping(folder: Path) -> None:
    """Each is uploaded in order, and the answer has what an environment takes."""

    async def main() -> None:
        async with serving() as (agents, server):
            files = {"/workspace/x/a.py": folder / "a.py", "/workspace/c": str(folder / "c.txt")}
            made = await agents.environments.files.prepare(files)
            assert made == PreparedAgentFiles(
                [
                    {"type": "file_id", "file_id": "file-1", "path": "/workspace/x/a.py"},
                    {"type": "file_id", "file_id": "file-2", "path": "/workspace/c"},
                ],
                ["file-1", "file-2"],
            )
            assert forms(server) == [("a.py", b"a", b"user_data"), ("c.txt", b"c", b"user_data")]

    run(main())


def test_files_of_a_folder(folder: Path) -> None:
    """Patterns choose them, and they keep their places below the destination."""

    async def main() -> None:
        async with serving() as (agents, server):
            made = await agents.environments.files.prepare_directory(
                folder, destination="/workspace/app", include=["**/*.py"]
            )
            assert [one["path"] for one in made.files] == ["/workspace/app/a.py", "/workspace/app/deep/b.py"]
            assert [content for _, content, _ in forms(server)] == [b"a", b"b"]

    run(main())


@pytest.mark.parametrize(
    "path",
    [
        "/other/a",
        "workspace/a",
        "/workspace",
        "/workspace/",
        "/workspace/../a",
        "/workspace/./a",
        "/workspace//a",
        "/workspace/a\\b",
        "/workspace/a\0",
        "/workspace/.codex/a",
        "/workspace/.managed-agents-1",
        "/workspace/outputs",
    ],
)
def test_places_that_are_none(path: str, folder: Path) -> None:
    """What is outside, or kept by environments for themselves, is refused before anything is sent."""

    async def main() -> None:
        async with serving() as (agents, server):
            files = agents.environments.files
            with pytest.raises(ValueError, match="workspace"):
                await files.prepare({"/workspace/ok": folder / "a.py", path: folder / "a.py"})
            with pytest.raises(ValueError, match="workspace"):
                await files.upload("env", file=b"x", path=path)
            assert not server.seen

    run(main())


def test_files_that_are_none(folder: Path) -> None:
    """Links, folders, missing files, patterns that leave the folder, and places below one another are refused."""
    os.symlink(folder / "a.py", folder / "link.py")
    os.symlink(folder / "deep", folder / "linked")

    async def main() -> None:
        async with serving() as (agents, server):
            files = agents.environments.files
            for source, kind in (
                (folder / "link.py", ValueError),
                (folder, ValueError),
                (folder / "none", FileNotFoundError),
            ):
                with pytest.raises(kind):
                    await files.prepare({"/workspace/a": source})
            with pytest.raises(ValueError, match="below another"):
                await files.prepare({"/workspace/a": folder / "a.py", "/workspace/a/b": folder / "c.txt"})
            with pytest.raises(ValueError, match="Idempotency-Key"):
                two = {"/workspace/a": folder / "a.py", "/workspace/b": folder / "c.txt"}
                await files.prepare(two, extra_headers={"Idempotency-Key": "k"})
            wrong = [["*.py"], ["linked/*"], ["../*"], ["/etc/*"], [""], ["*.none"], [], "*.py"]
            for include in wrong:
                with pytest.raises(ValueError, match=r"\w"):
                    await files.prepare_directory(folder, destination="/workspace", include=include)
            for root in (folder / "a.py", folder / "linked", folder / "none"):
                with pytest.raises(ValueError, match="not a folder"):
                    await files.prepare_directory(root, destination="/workspace", include=["*"])
            assert not server.seen

    run(main())


def test_an_upload_that_fails(folder: Path) -> None:
    """The error has what was uploaded before it, and is caused by that of the upload."""

    async def main() -> None:
        async with serving(lambda seen, count: count == 2) as (agents, _):
            files = {"/workspace/a": folder / "a.py", "/workspace/b": folder / "c.txt"}
            with pytest.raises(AgentFilePreparationError) as caught:
                await agents.environments.files.prepare(files)
            assert caught.value.prepared.uploaded_file_ids == ["file-1"]
            assert isinstance(caught.value.__cause__, openaiasync.APIStatusError)

    run(main())


def test_a_file_for_an_environment(folder: Path) -> None:
    """It is uploaded and put there; if that fails, the error names the upload."""

    async def main() -> None:
        async with serving() as (agents, server):
            made = await agents.environments.files.upload("env/1", file=folder / "a.py", path="/workspace/a.py")
            assert (made.uploaded_file_id, made.file.id) == ("file-1", "file-2")
            _, put = server.seen
            assert put.target == "/v1/agents/environments/env%2F1/files"
            assert put.json() == {"type": "file_id", "file_id": "file-1", "path": "/workspace/a.py"}
            assert put.headers["openai-beta"] == "agents=v1"
            with pytest.raises(ValueError, match="environment_id"):
                await agents.environments.files.upload("", file=b"x", path="/workspace/a.py")
        async with serving(lambda seen, count: count == 2) as (agents, _):
            with pytest.raises(AgentFileStagingError) as caught:
                await agents.environments.files.upload("env", file=b"x", path="/workspace/a.py")
            assert caught.value.uploaded_file_id == "file-1"

    run(main())


def test_artifacts_of_a_turn(tmp_path: Path) -> None:
    """They are found by turn and path; none, or several, are a `ValueError`."""
    result = SimpleNamespace(session_id="s", turn_id="t1")

    async def main() -> None:
        async with serving() as (agents, server):
            artifacts = agents.sessions.artifacts.for_result(result)
            assert (await artifacts.content("/x")).content == b"made"
            assert server.seen[-1].target == "/v1/agents/sessions/s/artifacts/a/content"
            found = await artifacts.download("/x", to=tmp_path / "x")
            assert (found.id, (tmp_path / "x").read_bytes()) == ("a", b"made")
            for path, count in (("/y", "2"), ("/z", "no")):
                with pytest.raises(ValueError, match=f"{count} artifacts"):
                    await artifacts.content(path)

    run(main())
