"""Many calls: a scheduler that sends rows as fast as servers take them, and what is built on it.

`Scheduler` sends `Work` and tells a `Sink` what became of each; `client.map` and jobs are two faces of it.
"""
