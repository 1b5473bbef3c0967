"""A budget in a Ray cluster: one actor for all workers, which is found again when it dies."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest

from openaiasync import Client, ConfigurationError, Limits
from openaiasync.budget.leases import open_budget
from openaiasync.budget.ray_actor import NAMESPACE, TTL, QuotaActor, RayBudget
from openaiasync.core.policy.shared_quota import RENEW, LeaseRequest
from openaiasync.testing import FakeAnswer, FakeTransport

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

CHAT = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}


def lease(**more: Any) -> LeaseRequest:
    return LeaseRequest(**{"worker": "w", "rpm": 6000.0, "requests": 64.0, **more})


def test_workers_share_an_actor(connected: Any) -> None:
    """Two connections to one name have one quota; another name has another one. The join is refused with other
    limits."""
    import ray

    ray.init(address=connected.address)

    async def main() -> None:
        one, other, third = (open_budget(f"ray://{name}") for name in ("a", "a", "b"))
        began = time.monotonic()
        got = [(await budget.lease(lease(worker=name))).requests or 0.0 for budget, name in ((one, "w"), (other, "v"))]
        assert got[0] >= 19  # a slice, in whole rows
        assert sum(got) <= 100 * (time.monotonic() - began) + 35  # 100 a second, and a slice of 0.3 s ahead
        # At once, as the actor forgets a worker after a second.
        refused = await asyncio.gather(one.lease(lease()), one.lease(lease(worker="u", event="join", rpm=1.0)))
        assert [grant.error for grant in refused] == ["", "limits"]
        assert (await third.lease(lease(worker="v"))).requests
        await other.aclose()

    asyncio.run(main())


def test_an_actor_that_dies_is_replaced(connected: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Calls go on while the actor is killed, ten times, and none fails; then they lease from the new one."""
    import ray

    ray.init(address=connected.address)

    async def main() -> None:
        limits = Limits(rpm=6000, shared="ray://killed")
        transport = FakeTransport(lambda request: FakeAnswer(json=CHAT))
        async with Client(
            api_key="k", http_other={"transport": transport}, http_max_in_flight=None, limits=limits
        ) as client:
            for _ in range(10):
                await asyncio.gather(*(client.chat("hi", model="m") for _ in range(20)))
                ray.kill(ray.get_actor("budget:killed", namespace=NAMESPACE), no_restart=True)
                answers = await asyncio.gather(*(client.chat("hi", model="m") for _ in range(60)))
                assert len(answers) == 60
                async with asyncio.timeout(30):
                    while True:
                        try:
                            ray.get_actor("budget:killed", namespace=NAMESPACE)
                            break
                        except ValueError:
                            await client.chat("hi", model="m")

    asyncio.run(main())


def test_an_unused_actor_ends(connected: Any) -> None:
    """It ends itself after ten minutes without a lease, by a call, so that Ray does not restart it."""
    import ray

    assert TTL == 600.0
    ray.init(address=connected.address)
    actor: Any = ray.remote(QuotaActor).options(
        name="budget:ends", namespace=NAMESPACE, max_restarts=-1, num_cpus=0, lifetime="detached"
    ).remote()  # fmt: skip
    actor.end.remote()
    for _ in range(100):
        try:
            ray.get_actor("budget:ends", namespace=NAMESPACE)
        except ValueError:
            return
        asyncio.run(asyncio.sleep(0.1))
    raise AssertionError("the actor is still there")


class _Empty:
    """An actor whose call does nothing."""

    async def call(self, form: int, data: bytes) -> bytes:
        return bytes(200)


def test_the_cost_of_a_lease(connected: Any) -> None:
    """A lease takes hardly more client CPU than a call of an actor that does nothing, which is all that Ray can do; and
    a worker that sends all the time leases at most six times a second."""
    import ray

    ray.init(address=connected.address)
    empty: Any = ray.remote(_Empty).options(num_cpus=0).remote()

    async def cpu(call: Any) -> float:
        began = time.process_time()
        for _ in range(200):
            await call()
        return 1000 * (time.process_time() - began) / 200

    async def main() -> tuple[float, float]:
        budget = open_budget("ray://cost")
        assert (await budget.lease(lease())).span == 0.25
        times = [
            (await cpu(lambda: budget.lease(lease())), await cpu(lambda: empty.call.remote(2, bytes(150))))
            for _ in range(4)
        ]
        ours, floor = (min(column) for column in zip(*times, strict=True))
        return ours, floor

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        ours, floor = asyncio.run(main())
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    print(f"a lease takes {ours:.2f} ms of client CPU, an empty call {floor:.2f} ms")
    assert ours <= 1.25 * floor
    assert 1 / (RENEW * 0.25) <= 6


def test_bad_names() -> None:
    """A name is not an address."""
    for url in ("ray://", "ray://head:10001/x", "ray://a b"):
        with pytest.raises(ConfigurationError, match="ray://NAME"):
            RayBudget(url)
