"""`openaiasync.lib.beta.agents`: what the helpers for agents' files and artifacts answer and raise."""

from __future__ import annotations

from ...methods.agents import (
    AgentFilePreparationError,
    AgentFileStagingError,
    AsyncAgentResultArtifacts,
    PreparedAgentFiles,
    StagedAgentFile,
)

__all__ = [
    "AgentFilePreparationError",
    "AgentFileStagingError",
    "AsyncAgentResultArtifacts",
    "PreparedAgentFiles",
    "StagedAgentFile",
]
