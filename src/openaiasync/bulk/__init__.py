"""Many calls: a scheduler that sends rows as fast as servers take them, and what is built on it.

`Scheduler` sends `Work` and reports each outcome to a `Sink`; `client.map` and jobs are built on it.
"""
