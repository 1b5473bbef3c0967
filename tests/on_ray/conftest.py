"""A Ray cluster of three nodes on this machine, started once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster_files import KEY, REPOSITORY, Server, running


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


# Of the nodes, and so of their workers: they are set before the cluster is started.
S3 = {
    "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{_free_port()}",
    "AWS_ACCESS_KEY_ID": "AKIAWORKERS",
    "AWS_SECRET_ACCESS_KEY": "s3-secret-of-the-workers",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Three nodes with a CPU each; the start is tried three times, as a busy machine may be too slow for Ray."""
    utils = pytest.importorskip("ray.cluster_utils")
    os.environ |= {"OPENAI_API_KEY": KEY, "RAY_DEDUP_LOGS": "0", "PYTHONPATH": str(REPOSITORY / "src"), **S3}
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


@pytest.fixture(scope="session")
def s3(cluster: Any) -> Iterator[str]:
    """The URL of a bucket on a server that speaks the protocol of S3."""
    pytest.importorskip("moto")
    s3fs = pytest.importorskip("s3fs")
    port = S3["AWS_ENDPOINT_URL_S3"].rpartition(":")[2]
    with subprocess.Popen([sys.executable, "-m", "moto.server", "-p", port], stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", int(port)), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            os.environ |= S3
            s3fs.S3FileSystem().mkdir("bucket")
            yield "s3://bucket"
        finally:
            server.kill()


@pytest.fixture
def api() -> Iterator[Server]:
    with running() as server:
        yield server
