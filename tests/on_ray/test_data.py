"""The stage in real data sets of Ray, beside Ray's own stage for HTTP; and shards as tasks of Dask."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_files import REPOSITORY, Server, keys_of, write_rows
from openaiasync import merge_shards
from openaiasync.ray import Requests

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Replaces the check of the other tests: Ray and Dask keep threads and sockets for the session."""


@pytest.fixture
def kept_environment() -> Iterator[None]:
    """Undo what Dask sets for its processes."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def data(connected: Any) -> Any:
    """``ray.data``, connected to the cluster."""
    ray = pytest.importorskip("ray")
    ray.init(address=connected.address, log_to_driver=False)
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    return ray.data


def spread(server: Server) -> float:
    """Seconds from the first request that the server saw to its last answer."""
    return float(server.report()["seconds"])


def test_one_worker_keeps_its_slots_full(data: Any, api: Server) -> None:
    """64 rows of 0.4 s in batches of 16 by one worker overlap, in at most a second between first and last."""
    api.set(latency=0.4)
    rows = [{"number": number, "text": f"row-{number}"} for number in range(64)]
    options = {"prompt": "Say {text}", "model": "m", "base_url": api.base}
    found = (
        data.from_items(rows)
        .repartition(1)
        .map_batches(Requests, fn_constructor_kwargs=options, batch_size=16, concurrency=1)
        .take_all()
    )
    assert sorted(row["number"] for row in found) == list(range(64))
    assert all(f"(row-{row['number']})" in row["text"] and row["error"] is None for row in found)
    took = spread(api)
    print(f"64 rows of 0.4 s, one worker: {took:.2f} s")
    assert took < 1.2


def test_beside_the_stage_of_ray(data: Any, api: Server) -> None:
    """The same rows through Ray's HTTP processor, where it is installed: it sends one after another."""
    llm = pytest.importorskip("ray.data.llm")
    api.set(latency=0.4)

    def request_of(row: dict[str, Any]) -> dict[str, Any]:
        return {"payload": {"model": "m", "messages": [{"role": "user", "content": row["text"]}]}}

    build = getattr(llm, "build_processor", None) or llm.build_llm_processor
    config = llm.HttpRequestProcessorConfig(
        url=f"{api.base}/chat/completions",
        headers={"Authorization": "Bearer x"},
        qps=1000,
        batch_size=16,
        concurrency=1,
    )
    processor = build(config, preprocess=request_of, postprocess=lambda row: {"answer": str(row["http_response"])})
    rows = [{"number": number, "text": f"row-{number}"} for number in range(64)]
    assert processor(data.from_items(rows).repartition(1)).count() == 64
    print(f"64 rows of 0.4 s, ray.data.llm: {spread(api):.2f} s")


def test_failed_rows_do_not_end_the_data_set(data: Any, api: Server) -> None:
    """Two workers, refused rows: each row is there once, with an answer or an error, and with its own columns."""
    api.set(bad=0.2)
    rows = [{"number": number, "messages": [{"role": "user", "content": f"row-{number}"}]} for number in range(200)]
    found = (
        data.from_items(rows)
        .repartition(8)
        .map_batches(Requests, fn_constructor_kwargs={"model": "m", "base_url": api.base}, batch_size=25, concurrency=2)
        .take_all()
    )
    assert sorted(row["number"] for row in found) == list(range(200))
    failed = [row for row in found if row["error"] is not None]
    assert 10 < len(failed) < 90
    assert all("BadRequestError" in row["error"] and row["text"] is None for row in failed)
    assert all(row["text"] and row["output_tokens"] > 0 for row in found if row["error"] is None)
    assert api.report()["requests"] == 200


@pytest.mark.usefixtures("kept_environment")
def test_the_recipe_for_dask(api: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's `run_shard` as tasks of a Dask cluster of two processes; one is killed on the way."""
    distributed = pytest.importorskip("distributed")
    page = (REPOSITORY / "docs" / "several-machines.md").read_text()
    (text,) = re.findall(r"```python\n(import asyncio\n.*?def run_shard.*?)```", page, re.DOTALL)
    module = tmp_path / "recipe_of_the_page.py"
    module.write_text(text)
    source, out = write_rows(tmp_path / "in.jsonl", 800), tmp_path / "out.jsonl"
    api.set(latency=0.05)
    monkeypatch.setenv("OPENAI_BASE_URL", api.base)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{REPOSITORY / 'src'}")
    monkeypatch.syspath_prepend(str(tmp_path))
    import recipe_of_the_page  # type: ignore[import-not-found]

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        distributed.Client(local) as dask,
    ):
        futures = dask.map(
            recipe_of_the_page.run_shard, range(6), total=6, source=source, out=str(out), pure=False, retries=5
        )
        while api.report()["answers"] < 100:
            time.sleep(0.02)
        for path in tmp_path.glob("out.jsonl.shards/*.job/status.json"):
            status = json.loads(path.read_text())
            if not status["ended"]:
                os.kill(status["pid"], signal.SIGKILL)
                break
        assert sum(dask.gather(futures)) == 0
    report = asyncio.run(merge_shards(out))
    assert report.ok == 800
    assert keys_of(out) == [f"k{number}" for number in range(800)]
    print(f"{api.report()['paid_twice']} paid twice, {len(report.paid_twice)} named")
    assert set(api.report()["paid_twice_rows"]) <= {int(key[1:]) for key in report.paid_twice}
