"""A real browser, headless: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium. Skipped where there is none, but never in CI."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs chromium and playwright")
        pytest.skip("chromium or playwright is not installed")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=_FLAGS.split())
        yield chromium
        chromium.close()
