"""The errors under the official client's private path, which much code imports."""

from .errors import *  # noqa: F403  (the list is that of `errors`)
from .errors import __all__ as __all__
