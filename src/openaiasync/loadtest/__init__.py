"""Load tests of a server: requests on a schedule, times taken where bytes are received, and a verdict on the client.

`LoadTest` sends the requests of a `Workload` at the pace of a `Load` and returns a `StageResult`. The command for it is
`openaiasync bench`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..lazy import lazy_names, resolve_annotations

if TYPE_CHECKING:
    from .load_report import LoadReport as LoadReport
    from .load_report import html_page as html_page
    from .load_requests import Workload as Workload
    from .load_requests import endpoint_named as endpoint_named
    from .load_requests import fixed_prompt as fixed_prompt
    from .load_requests import rows_of_file as rows_of_file
    from .load_requests import synthetic_prompts as synthetic_prompts
    from .load_requests import with_random_limit as with_random_limit
    from .results import Goals as Goals
    from .results import RequestRecord as RequestRecord
    from .results import StageResult as StageResult
    from .runner import Load as Load
    from .runner import LoadTest as LoadTest
    from .verdict import Verdict as Verdict

_NAMES = {
    "Goals": "openaiasync.loadtest.results",
    "Load": "openaiasync.loadtest.runner",
    "LoadReport": "openaiasync.loadtest.load_report",
    "LoadTest": "openaiasync.loadtest.runner",
    "RequestRecord": "openaiasync.loadtest.results",
    "StageResult": "openaiasync.loadtest.results",
    "Verdict": "openaiasync.loadtest.verdict",
    "Workload": "openaiasync.loadtest.load_requests",
    "endpoint_named": "openaiasync.loadtest.load_requests",
    "fixed_prompt": "openaiasync.loadtest.load_requests",
    "html_page": "openaiasync.loadtest.load_report",
    "rows_of_file": "openaiasync.loadtest.load_requests",
    "synthetic_prompts": "openaiasync.loadtest.load_requests",
    "with_random_limit": "openaiasync.loadtest.load_requests",
}
__all__ = [
    "Goals",
    "Load",
    "LoadReport",
    "LoadTest",
    "RequestRecord",
    "StageResult",
    "Verdict",
    "Workload",
    "endpoint_named",
    "fixed_prompt",
    "html_page",
    "rows_of_file",
    "synthetic_prompts",
    "with_random_limit",
]
__getattr__: Callable[[str], Any] = lazy_names(__name__, _NAMES)

resolve_annotations(__name__)
