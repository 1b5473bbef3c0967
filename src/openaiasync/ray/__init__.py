"""The bulk engine on Ray (extra ``[ray]``): jobs whose shards run on the workers of a cluster, and a stage of Ray Data.

`Requests` is a callable class for ``Dataset.map_batches``. `RayJob` is `openaiasync run --ray`. Importing this package
does not import Ray.
"""

from __future__ import annotations

from .requests_stage import Requests
from .shard_driver import RayJob

__all__ = ["RayJob", "Requests"]
