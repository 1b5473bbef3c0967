"""Ends the build on an old Python at once, with a sentence.

pip reads `requires-python` of a folder only after it has looked through every release of the dependencies for one that
fits the old Python, which takes minutes.
"""

import sys

from hatchling.metadata.plugin.interface import MetadataHookInterface


class PythonVersionCheck(MetadataHookInterface):
    def update(self, metadata):
        """Raise `SystemExit` before anything is built; `metadata` stays as it is."""
        if sys.version_info < (3, 11):
            running = ".".join(map(str, sys.version_info[:3]))
            raise SystemExit(f"openaiasync needs Python 3.11 or newer; this is Python {running}")
