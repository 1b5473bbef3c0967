"""Workload identity: a key that is exchanged for a proof of who a program is. See `openaiasync.auth`."""
