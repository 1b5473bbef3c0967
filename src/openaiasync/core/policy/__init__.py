"""Retries, limits, timeouts: decisions as pure functions of facts."""
