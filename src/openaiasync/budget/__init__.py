"""Budgets: one allowance for many processes.

A backend is a `Budget` (`base.py`): an object with `lease`, which passes an `Ask` to where the allowance is kept and
returns its `Grant`, and `aclose`. Both are msgspec Structs of `core.policy.leasing`, whose `Allowance` does the
arithmetic: a backend that runs Python where the allowance is kept (an actor) has an `Allowance` there and calls
``allowance.lease(time.monotonic(), ask)``. `open_budget` finds the backend of a URL by its scheme; to add one, add its
scheme there.

    base.py    `Budget`, `SharedLimitsError`; the backend in process (``local:NAME``)
    redis.py   the backend over Redis: `Allowance` as one Lua script
    leases.py  `Leases`: the worker's side, over any backend: joins, leases slices ahead, continues without the budget;
               `open_budget`
"""
