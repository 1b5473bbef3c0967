"""The former name of `openaiasync.bridge`, kept for code that imports it."""

from .bridge import BridgeOptions as BridgeOptions
from .bridge import transport as transport

__all__ = ["BridgeOptions", "transport"]
