"""Retries, limits and pacing, as pure functions and state machines: times and random numbers are arguments."""
