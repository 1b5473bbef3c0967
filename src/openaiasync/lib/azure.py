"""`openaiasync.azure` under its official path."""

from ..azure import AsyncAzureADTokenProvider, AsyncAzureOpenAI, MutuallyExclusiveAuthError

__all__ = ["AsyncAzureADTokenProvider", "AsyncAzureOpenAI", "MutuallyExclusiveAuthError"]
