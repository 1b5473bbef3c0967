"""What stands in the place of secrets, and which values of a URL's query may be some."""

from __future__ import annotations

import re

__all__ = ["HIDDEN", "redacted"]

HIDDEN = "[redacted]"
_SECRET_QUERY = re.compile(
    r"([?&](?:[^=&#]*[-_.])?(?:key|apikey|token|secret|password|passwd|sig|signature|credential|code)=)[^&#]+",
    re.IGNORECASE,
)


def redacted(url: str) -> str:
    """The URL without the values of query parameters whose names say that they are secret: ``key``, ``api-key``,
    ``access_token``, ``sig`` and the like."""
    return _SECRET_QUERY.sub(rf"\1{HIDDEN}", url) if "?" in url else url
