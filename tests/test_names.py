"""The names that users of the official client know: at the top of the package, on the client, on its helpers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

import openaiasync
from generate.tables import read_surface
from openaiasync import AsyncOpenAI
from oracle.differences import ANSWERS, OTHERS, REQUESTS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs/coming-from-openai.md"
METHODS = list(read_surface(REPOSITORY / "spec/surface.tsv"))

# Names at the top of `openai` that we do not have, with the reason; the page about the official client lists them.
NOT_AT_THE_TOP = {
    "BedrockOpenAI AsyncBedrockOpenAI": "request signing of another provider",
    "OpenAI Stream DefaultHttpxClient DefaultHttpx2Client ComputerDriver ComputerToolset": "synchronous",
    "AsyncComputerDriver AsyncComputerToolset": "they control a desktop, not an API",
    "DefaultAsyncHttpxClient DefaultAioHttpClient": "other HTTP clients; `DefaultAsyncHttpx2Client` exists",
    "ProxiesTypes Transport": "httpx2's own types: import them from there",
}
# Methods that we do not have, with the reason.
LEFT_OUT = {
    "beta.agents.sessions.stream": "the events of an agents' session are not published",
}


def words(table: dict[str, str]) -> set[str]:
    return {word for row in table for word in row.split()}


def test_names_at_the_top() -> None:
    """`from openaiasync import X` works for every asynchronous X of `openai`; exceptions are listed, no more."""
    names = (REPOSITORY / "spec/top_level_names.txt").read_text(encoding="utf-8").split()
    missing: set[str] = set()
    for name in names:
        try:
            getattr(openaiasync, name)
        except (AttributeError, ImportError):  # an ImportError says what to use in place of a synchronous class
            missing.add(name)
    assert missing == words(NOT_AT_THE_TOP)


def test_methods_are_where_they_are_officially() -> None:
    """Every method of the official client is a method of ours; those left out are listed, and no more."""
    client = AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:1/v1")
    missing: set[str] = set()
    for name in METHODS:
        try:
            assert callable(functools.reduce(getattr, name.split("."), client))
        except AttributeError:
            missing.add(name)
    assert missing == words(LEFT_OUT)
    assert len(METHODS) == 428


def test_the_page_names_what_differs() -> None:
    """The page for users of the official client has every row of the tests' tables of differences."""
    page = PAGE.read_text(encoding="utf-8").splitlines()
    for table in (NOT_AT_THE_TOP, LEFT_OUT):
        for row, reason in table.items():
            assert f"| {', '.join(f'`{word}`' for word in row.split())} | {reason} |" in page
    for one in (*REQUESTS, *ANSWERS, *OTHERS):
        assert f"| {one.what} | {one.official} | {one.ours} | {one.reason} |" in page


def test_a_client_knows_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, secrets, headers and query can be read, and key and webhook secret set, as with the official client."""
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    options: dict[str, Any] = {"default_headers": {"X-A": "1"}, "default_query": {"v": 2}, "project": "p"}
    client = openaiasync.AsyncClient(api_key="sk-1", webhook_secret="whsec_", websocket_base_url="ws://h", **options)
    assert (client.api_key, client.admin_api_key, client.webhook_secret) == ("sk-1", "sk-admin", "whsec_")
    assert (client.default_headers, client.default_query, client.project) == ({"X-A": "1"}, {"v": 2}, "p")
    assert (client.websocket_base_url, client.max_retries) == ("ws://h", 2)
    assert client.timeout == openaiasync.DEFAULT_TIMEOUT
    assert client.max_retries == openaiasync.DEFAULT_MAX_RETRIES
    client.api_key = "sk-2"
    client.webhook_secret = "other"
    relative = client.with_options(websocket_base_url="ws://other", default_query={"w": 3})
    assert (relative.api_key, relative.webhook_secret, relative.websocket_base_url) == ("sk-2", "other", "ws://other")
    assert relative.default_query == {"v": 2, "w": 3}
    assert "sk-" not in repr(client) + repr(relative)


@pytest.mark.parametrize("region", ["eu", "global"])
def test_regions(region: str) -> None:
    """A region stands for its base URL; with another one, or unknown, it is refused."""
    client = AsyncOpenAI(api_key="k", data_residency=region)
    host = "api.openai.com" if region == "global" else f"{region}.api.openai.com"
    assert client.base_url == f"https://{host}/v1/"
    assert client.with_options(data_residency="jp").base_url == "https://jp.api.openai.com/v1/"
    with pytest.raises(ValueError, match="no API key"):
        AsyncOpenAI(data_residency=region)
    assert AsyncOpenAI(data_residency=region, _enforce_credentials=False).api_key == ""
    with pytest.raises(ValueError, match="mutually exclusive"):
        AsyncOpenAI(api_key="k", data_residency=region, base_url="http://127.0.0.1:1")
    with pytest.raises(ValueError, match="data_residency must be one of global, us"):
        AsyncOpenAI(api_key="k", data_residency="mars")


def test_a_file_from_its_path(tmp_path: Path) -> None:
    """Name and content; a file that is not there is an `OSError`."""
    (tmp_path / "a.txt").write_bytes(b"content")
    assert openaiasync.file_from_path(str(tmp_path / "a.txt")) == ("a.txt", b"content", None)
    with pytest.raises(FileNotFoundError):
        openaiasync.file_from_path(tmp_path / "none")
