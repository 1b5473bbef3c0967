"""A Ray cluster of three nodes on this machine, started once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster_files import KEY, REPOSITORY, Server, running


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Three nodes with a CPU each; the start is tried three times, as a busy machine may be too slow for Ray."""
    utils = pytest.importorskip("ray.cluster_utils")
    os.environ |= {"OPENAI_API_KEY": KEY, "RAY_DEDUP_LOGS": "0", "PYTHONPATH": str(REPOSITORY / "src")}
    for attempt in range(3):
        found = None
        try:
            found = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            for _ in range(2):
                found.add_node(num_cpus=1)
            break
        except Exception:
            if found is not None:
                found.shutdown()
            if attempt == 2:
                raise
            time.sleep(5)
    yield found
    import ray

    ray.shutdown()
    found.shutdown()


@pytest.fixture
def connected(cluster: Any) -> Iterator[Any]:
    """The cluster, without a connection of this process from an earlier test, and with the environment that was."""
    import ray

    before = dict(os.environ)
    yield cluster
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def api() -> Iterator[Server]:
    with running() as server:
        yield server
