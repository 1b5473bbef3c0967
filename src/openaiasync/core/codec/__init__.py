"""Requests from parameters, answers from bytes, whole answers from events."""
