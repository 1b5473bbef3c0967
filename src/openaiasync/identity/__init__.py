"""Workload identity: a key for who a program is, instead of one that it holds. See `openaiasync.auth`."""
