"""The built documentation site, in a real browser: every page renders, and every link within the site leads somewhere.

`scripts/check` builds the site and names its folder in OPENAIASYNC_SITE.
"""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

pytestmark = pytest.mark.browser


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The URL of the site, served as it was built."""
    folder = os.environ.get("OPENAIASYNC_SITE")
    if not folder:
        pytest.skip("OPENAIASYNC_SITE names no built site")
    handler = functools.partial(_QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def pages(browser: Any, site: str) -> dict[str, dict[str, Any]]:
    """Every page that links from the front page reach: its status, heading, anchors, links and errors of scripts."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [site]
    tab = browser.new_page()
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    while waiting:
        url = waiting.pop()
        if url in found:
            continue
        errors.clear()
        response = tab.goto(url, wait_until="domcontentloaded")
        page: dict[str, Any] = {"status": response.status, "html": "text/html" in response.headers["content-type"]}
        found[url] = page
        if not page["html"]:
            continue
        page["heading"] = tab.evaluate("document.querySelector('h1')?.innerText ?? ''")
        page["anchors"] = set(tab.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)"))
        page["links"] = [
            urldefrag(link) for link in tab.evaluate("[...document.querySelectorAll('a[href]')].map(one => one.href)")
        ]
        page["errors"] = list(errors)
        waiting += [target for target, _ in page["links"] if target.startswith(site)]
    tab.close()
    return found


def test_every_page_is_there(pages: dict[str, dict[str, Any]], site: str) -> None:
    """The links from the front page reach a page for each file in docs/."""
    names = {path.stem for path in (Path(__file__).parents[2] / "docs").glob("*.md")} - {"index"}
    assert {site + f"{name}/" for name in names} <= pages.keys()
    assert {url for url, page in pages.items() if page["status"] != 200} == set()


def test_every_page_has_a_heading(pages: dict[str, dict[str, Any]]) -> None:
    """No page is empty, and no script on it fails."""
    assert [url for url, page in pages.items() if page["html"] and not page["heading"]] == []
    assert [(url, page["errors"]) for url, page in pages.items() if page.get("errors")] == []


def test_every_link_leads_somewhere(pages: dict[str, dict[str, Any]], site: str) -> None:
    """A link within the site leads to a page that exists, and its fragment to an element there."""
    dead = [
        (url, target, fragment)
        for url, page in pages.items()
        for target, fragment in page.get("links", ())
        if target.startswith(site) and fragment and unquote(fragment) not in pages[target].get("anchors", {fragment})
    ]
    assert dead == []


def test_the_reference_shows_options(browser: Any, site: str) -> None:
    """The API reference lists the keywords of the constructors with their types and defaults."""
    tab = browser.new_page()
    tab.goto(site + "reference/", wait_until="domcontentloaded")
    text = tab.evaluate("document.getElementById('openaiasync.AsyncOpenAI').parentElement.innerText")
    tab.close()
    assert "max_retries = 2" in text.replace("=", " = ").replace("  ", " ")
    assert "workload_identity" in text


def test_a_search_finds_a_page(browser: Any, site: str) -> None:
    """The search that is built into the site finds a word of a page; nothing is loaded from another host."""
    tab = browser.new_page()
    other_hosts: list[str] = []
    tab.on("request", lambda request: request.url.startswith(site) or other_hosts.append(request.url))
    tab.goto(site, wait_until="load")
    tab.keyboard.press("/")
    tab.keyboard.type("cassette", delay=20)
    tab.get_by_text("Record and replay").first.wait_for(timeout=15_000)
    tab.close()
    assert other_hosts == []
