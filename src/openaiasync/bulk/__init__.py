"""Many calls: a scheduler that sends rows as fast as the servers accept them, `client.map`, and jobs.

`Scheduler` sends `Work` and reports each outcome to a `Sink`; `client.map` and jobs are built on it.
"""
