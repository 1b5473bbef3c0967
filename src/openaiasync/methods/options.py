"""What the helpers' methods take, and the sizes that the API sets."""

from __future__ import annotations

from ..core.policy.options import RequestOptions

__all__ = ["PART_SIZE", "PollOptions", "WaitOptions"]

PART_SIZE = 64 * 1024 * 1024  # bytes: the most that the API takes as one part of an upload


class PollOptions(RequestOptions, total=False):
    """The options of a helper that waits.

    `poll_interval_ms` are the milliseconds between two looks; without it the server's hint (the field
    ``openai-poll-after-ms``, at most a minute) or 1,000. `deadline` is of the whole helper, pauses included;
    `extra_query` and `extra_body` go with its first request, the other options with all.
    """

    poll_interval_ms: float


class WaitOptions(PollOptions, total=False):
    """The same, with a limit of the waiting alone: `max_wait_seconds` from the first look on."""

    max_wait_seconds: float
