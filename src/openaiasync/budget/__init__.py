"""Budgets: one limit for many processes.

A backend is a `Budget` (`base.py`): an object with `lease`, which passes a `LeaseRequest` to the `Quota` and
returns its `Grant`, and `aclose`. Both are msgspec Structs of `core.policy.shared_quota`, whose `Quota` does the
arithmetic: a backend that runs Python at the other end (an actor) has a `Quota` there and calls
``quota.lease(time.monotonic(), request)``. `open_budget` finds the backend of a URL by its scheme; to add one, add its
scheme there.

    base.py       `Budget`, `SharedLimitsError`; the backend in process (``local:NAME``)
    redis.py      the backend over Redis: `Quota` as one Lua script, lease.lua
    ray_actor.py  the backend in a Ray cluster: `Quota` in a named actor
    leases.py     `Leases`: the worker's side, over any backend: joins, leases slices ahead, continues without the
                  budget; `open_budget`
"""
