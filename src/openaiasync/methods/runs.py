"""`client.beta.threads` and its `runs`: polling and streaming, which the generated namespaces inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from .. import endpoints
from ..lazy import resolve_annotations
from .common import no_raw_twin
from .polling import Poller

if TYPE_CHECKING:
    from ..core.codec.endpoint import Endpoint
    from ..engine import Engine
    from ..official.assistants import AsyncAssistantEventHandler, AsyncAssistantStreamManager
    from ..params.beta.thread_create_and_run_params import ThreadCreateAndRunParamsBase
    from ..params.beta.threads.run_create_params import RunCreateParamsBase
    from ..params.beta.threads.run_submit_tool_outputs_params import RunSubmitToolOutputsParamsBase
    from ..types.beta.threads import Run
    from .polling import PollOptions

    H = TypeVar("H", bound=AsyncAssistantEventHandler)
    Plain = AsyncAssistantStreamManager[AsyncAssistantEventHandler]

__all__ = ["RunsHelpers", "ThreadsHelpers"]

_ENDS = frozenset({"requires_action", "cancelled", "completed", "failed", "expired", "incomplete"})


async def _ended(poller: Poller, run_id: str, thread_id: str) -> Any:
    ids = {"run_id": run_id, "thread_id": thread_id}
    return await poller.end(endpoints.BETA_THREADS_RUNS_RETRIEVE, ids, lambda status: status not in _ENDS)


async def _made(calls: Engine, endpoint: Endpoint, params: dict[str, Any], interval: float | None) -> Any:
    """Make a request whose answer is a run, and wait for that run."""
    params["poll_interval_ms"] = interval
    poller = Poller(calls, params)
    run = await poller.first(endpoint, params, "id thread_id")
    return await _ended(poller, run.id, run.thread_id)


def _streamed(calls: Engine, endpoint: Endpoint, params: dict[str, Any], handler: Any) -> Any:
    from ..official.assistants import AsyncAssistantEventHandler, AsyncAssistantStreamManager

    request = calls.request(endpoint, params, stream=True)
    return AsyncAssistantStreamManager(calls, request, AsyncAssistantEventHandler() if handler is None else handler)


class ThreadsHelpers:
    """The hand-written part of `client.beta.threads`. Deprecated, as assistants are."""

    _calls: Engine

    @no_raw_twin
    async def create_and_run_poll(
        self, *, poll_interval_ms: float | None = None, **params: Unpack[ThreadCreateAndRunParamsBase]
    ) -> Run:
        """Create a thread, run an assistant on it, and wait; see `runs.poll`."""
        run: Run = await _made(self._calls, endpoints.BETA_THREADS_CREATE_AND_RUN, {**params}, poll_interval_ms)
        return run

    @overload
    def create_and_run_stream(
        self, *, event_handler: None = None, **params: Unpack[ThreadCreateAndRunParamsBase]
    ) -> Plain: ...
    @overload
    def create_and_run_stream(
        self, *, event_handler: H, **params: Unpack[ThreadCreateAndRunParamsBase]
    ) -> AsyncAssistantStreamManager[H]: ...
    @no_raw_twin
    def create_and_run_stream(
        self, *, event_handler: Any = None, **params: Unpack[ThreadCreateAndRunParamsBase]
    ) -> Any:
        """Create a thread, run an assistant on it, and stream the run; see `runs.stream`."""
        return _streamed(self._calls, endpoints.BETA_THREADS_CREATE_AND_RUN, {**params}, event_handler)


class RunsHelpers:
    """The hand-written part of `client.beta.threads.runs`. Deprecated, as assistants are."""

    _calls: Engine

    @no_raw_twin
    async def poll(self, run_id: str, thread_id: str, **options: Unpack[PollOptions]) -> Run:
        """Wait until a run has ended, or `status` is "requires_action", and return it, failed or not.

        Raises `PollTimeoutError` after `deadline`, with the run as last received in `.partial`, and `OpenAIError`.
        """
        run: Run = await _ended(Poller(self._calls, {**options}), run_id, thread_id)
        return run

    @no_raw_twin
    async def create_and_poll(
        self, *, thread_id: str, poll_interval_ms: float | None = None, **params: Unpack[RunCreateParamsBase]
    ) -> Run:
        """Run an assistant on a thread and wait; see `poll`."""
        made = {**params, "thread_id": thread_id}
        run: Run = await _made(self._calls, endpoints.BETA_THREADS_RUNS_CREATE, made, poll_interval_ms)
        return run

    @no_raw_twin
    async def submit_tool_outputs_and_poll(
        self,
        *,
        run_id: str,
        thread_id: str,
        poll_interval_ms: float | None = None,
        **params: Unpack[RunSubmitToolOutputsParamsBase],
    ) -> Run:
        """Submit the results of a run's tool calls, and wait; see `poll`."""
        made = {**params, "thread_id": thread_id, "run_id": run_id}
        run: Run = await _made(self._calls, endpoints.BETA_THREADS_RUNS_SUBMIT_TOOL_OUTPUTS, made, poll_interval_ms)
        return run

    @overload
    def stream(self, *, thread_id: str, event_handler: None = None, **params: Unpack[RunCreateParamsBase]) -> Plain: ...
    @overload
    def stream(
        self, *, thread_id: str, event_handler: H, **params: Unpack[RunCreateParamsBase]
    ) -> AsyncAssistantStreamManager[H]: ...
    @no_raw_twin
    def stream(self, *, thread_id: str, event_handler: Any = None, **params: Unpack[RunCreateParamsBase]) -> Any:
        """Run an assistant on a thread and stream the run: ``async with runs.stream(...) as stream: ...``.

        The stream is the `event_handler`, whose methods are called as it is read; without one, iterate it for the
        events. ``await stream.get_final_messages()`` and its like read it to the end. Raises `TypeError` for a wrong
        request; nothing is sent before the stream is entered.
        """
        made = {**params, "thread_id": thread_id}
        return _streamed(self._calls, endpoints.BETA_THREADS_RUNS_CREATE, made, event_handler)

    @overload
    def create_and_stream(
        self, *, thread_id: str, event_handler: None = None, **params: Unpack[RunCreateParamsBase]
    ) -> Plain: ...
    @overload
    def create_and_stream(
        self, *, thread_id: str, event_handler: H, **params: Unpack[RunCreateParamsBase]
    ) -> AsyncAssistantStreamManager[H]: ...
    @no_raw_twin
    def create_and_stream(
        self, *, thread_id: str, event_handler: Any = None, **params: Unpack[RunCreateParamsBase]
    ) -> Any:
        """Return the same as `stream`, under its older name."""
        made = {**params, "thread_id": thread_id}
        return _streamed(self._calls, endpoints.BETA_THREADS_RUNS_CREATE, made, event_handler)

    @overload
    def submit_tool_outputs_stream(
        self,
        *,
        run_id: str,
        thread_id: str,
        event_handler: None = None,
        **params: Unpack[RunSubmitToolOutputsParamsBase],
    ) -> Plain: ...
    @overload
    def submit_tool_outputs_stream(
        self, *, run_id: str, thread_id: str, event_handler: H, **params: Unpack[RunSubmitToolOutputsParamsBase]
    ) -> AsyncAssistantStreamManager[H]: ...
    @no_raw_twin
    def submit_tool_outputs_stream(
        self,
        *,
        run_id: str,
        thread_id: str,
        event_handler: Any = None,
        **params: Unpack[RunSubmitToolOutputsParamsBase],
    ) -> Any:
        """Submit the results of a run's tool calls, and stream the rest of the run; see `stream`."""
        made = {**params, "thread_id": thread_id, "run_id": run_id}
        return _streamed(self._calls, endpoints.BETA_THREADS_RUNS_SUBMIT_TOOL_OUTPUTS, made, event_handler)


resolve_annotations(__name__)
