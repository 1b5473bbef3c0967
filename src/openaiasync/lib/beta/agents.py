"""`openaiasync.lib.beta.agents`: what the helpers for agents' files and artifacts answer and raise."""

from __future__ import annotations

from ...methods.agent_artifacts import AsyncAgentResultArtifacts
from ...methods.agent_files import (
    AgentFilePreparationError,
    AgentFileStagingError,
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
