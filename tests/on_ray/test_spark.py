"""The recipe for Spark in docs/several-machines.md, in Spark's local mode with three partitions on one budget."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_files import KEY, REPOSITORY, Store, running

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Replaces the check of the other tests: Spark keeps threads and sockets."""


def classifier(base: str, shared: str) -> Any:
    """The function of the recipe, with a server and a budget. Spark sends it to its workers."""

    def classify(frames: Iterator[Any]) -> Iterator[Any]:
        import pandas  # type: ignore[import-untyped,import-not-found,unused-ignore]

        from openaiasync.ray import Requests

        async def start(stage: Any, frame: Any) -> Any:
            return asyncio.create_task(stage({name: list(frame[name]) for name in frame}))

        async def result(task: Any) -> Any:
            return pandas.DataFrame(await task)

        with asyncio.Runner() as runner:
            stage = Requests(prompt="Is this positive? {text}", model="m", base_url=base, rpm=3000, shared=shared)
            pending: deque[Any] = deque()
            for frame in frames:
                pending.append(runner.run(start(stage, frame)))
                if len(pending) == 4:
                    yield runner.run(result(pending.popleft()))
            while pending:
                yield runner.run(result(pending.popleft()))
            runner.run(stage.aclose())

    return classify


def test_a_data_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row gets its answer; three workers of Spark share the limit without 429s."""
    sql = pytest.importorskip("pyspark.sql")
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("redis")
    if shutil.which("java") is None or shutil.which("redis-server") is None:
        pytest.skip("java or redis-server is not installed")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
    for name in ("SPARK_AUTH_SOCKET_TIMEOUT", "SPARK_BUFFER_SIZE"):  # which Spark sets, and leaves behind
        monkeypatch.setenv(name, "15")
    store = Store(tmp_path)
    spark = None
    try:
        with running(rpm=3000, burst=1.0, latency=0.05) as server:
            builder = sql.SparkSession.builder.master("local[3]").config("spark.ui.enabled", "false")
            spark = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 50).getOrCreate()
            texts = [f"row-{number}" for number in range(600)]
            frame = spark.createDataFrame(pandas.DataFrame({"id": range(600), "text": texts})).repartition(3)
            schema = "id long, text string, finish_reason string, input_tokens long, output_tokens long, error string"
            rows = frame.mapInPandas(classifier(server.base, store.url("spark")), schema=schema).collect()
            counts = server.report()
    finally:
        if spark is not None:
            spark.stop()
        store.kill()
    assert sorted(row.id for row in rows) == list(range(600))
    assert all(row.error is None and f"(row-{row.id})" in row.text for row in rows)
    print(f"{counts['share']:.0%} of the limit used, {counts['refused']} 429s")
    assert (counts["requests"] - counts["refused"], counts["refused"] <= 5) == (600, True)
