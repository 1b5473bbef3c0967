"""Workload identity: a program proves its identity in exchange for a short-lived key. See `openaiasync.auth`."""
