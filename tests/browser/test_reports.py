"""The pages of a load test and of a job, opened from the disk in a real browser."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openaiasync import Client
from openaiasync.bulk.progress import TimelinePoint
from openaiasync.bulk.report import JobReport
from openaiasync.bulk.report import html_page as job_page
from openaiasync.demo import demo_app
from openaiasync.loadtest.load_report import LoadReport, html_page
from openaiasync.loadtest.load_requests import Workload, endpoint_named, synthetic_prompts
from openaiasync.loadtest.results import ErrorCount, Goals
from openaiasync.loadtest.runner import Load, LoadTest
from openaiasync.server import serve, start_in_thread

pytestmark = pytest.mark.browser

ATTACK = '<img src=x onerror="window.hacked=1">'


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a sweep over two loads of the demo server, with an error that is written to attack the page."""

    async def measured(base: str) -> LoadReport:
        chat = endpoint_named("chat")
        workload = Workload(chat, synthetic_prompts(chat, (10, 20)), defaults={"model": "demo-chat", "max_tokens": 16})
        report = LoadReport(url=base, model=ATTACK, started="2026-01-01", workload="w", versions={"Python": "3"})
        async with Client(api_base=base) as client, LoadTest(client, workload, goals=Goals(ttft=5.0)) as test:
            for workers in (1, 4):
                report.stages.append(await test.run(Load(concurrency=workers, duration=1.0)))
        report.stages[1].errors = [ErrorCount(kind="429", count=2, messages=[ATTACK])]
        return report

    with start_in_thread(serve(demo_app(token_delay=0.002))) as server, ThreadPoolExecutor(1) as thread:
        report = thread.submit(lambda: asyncio.run(measured(server.base_url))).result()  # playwright has a loop here
    path = tmp_path_factory.mktemp("report") / "load.html"
    path.write_text(html_page(report), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 380])
def test_the_page_of_a_load_test(browser: Any, page_path: Path, scheme: str, width: int) -> None:
    """Plots have lines, texts are readable on their background, nothing is fetched, and no text of a server runs."""
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    fetched: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(page_path.as_uri())
    assert page.locator("section").count() == 2
    plots = page.locator("svg")
    assert plots.count() >= 8
    assert page.locator("polyline").first.evaluate("line => line.getTotalLength()") > 50
    assert all(plots.nth(number).bounding_box()["height"] > 50 for number in range(plots.count()))
    background, ink = (
        page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    assert (sum(channels(background)) > sum(channels(ink))) == (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling of the page"
    assert ATTACK in page.inner_text("body")
    assert page.evaluate("window.hacked") is None
    assert fetched == [page_path.as_uri()]
    assert complaints == []
    page.close()


CURVES_INSIDE = """curves => curves.map(curve => {
  const inner = curve.getBoundingClientRect(), outer = curve.closest('svg').getBoundingClientRect()
  return inner.width > outer.width / 2 && inner.left >= outer.left && inner.right <= outer.right + 1
    && inner.top >= outer.top && inner.bottom <= outer.bottom })"""


def test_the_page_of_a_job(browser: Any, tmp_path: Path) -> None:
    """Five plots whose curves are inside of them, no wider than the window; nothing but the page is loaded."""
    points = [
        TimelinePoint(at=number + 1.0, seconds=1.0, rows=100, failed=1, p50=0.1, p90=0.2, p99=0.4, limit=64,
                      in_flight=30, refused=2, tokens=5000)
        for number in range(24)
    ]  # fmt: skip
    report = JobReport(
        out="/home/me/<b>.jsonl", errors="/home/me/<b>.errors.jsonl", rows=2400, ok=2300, failed=100, timeline=points,
        seconds=24.0, failures={"HTTP 400 <script>": 100}, latency={"p50": 0.1},
    )  # fmt: skip
    path = tmp_path / "report.html"
    path.write_text(job_page(report), encoding="utf-8")
    page = browser.new_page(viewport={"width": 800, "height": 600})
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(path.as_uri())
    assert page.locator("svg").count() == 5
    assert page.locator("polyline").evaluate_all(CURVES_INSIDE) == [True] * 9
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert fetched == [path.as_uri()]
    page.close()


def channels(color: str) -> list[int]:
    return [int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
