"""Secrets are removed from texts in whatever form a server writes them, and other texts stay the same object."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.core.model.secrets import Secret, Secrets

KEYS = ("sk-Planted/0123+4567=", 'p"<ss>&w', "\\back\\slash", "pässwört", "abcd")
SECRETS = Secrets(*map(Secret, KEYS))
FORMS = [form for key in KEYS for form in (key, json.dumps(key)[1:-1], quote(key, safe=""))]


@given(st.lists(st.sampled_from([*FORMS, *(key[:5] for key in KEYS), "sk-", "a", "\\", "%", '"', " "]), max_size=8))
def test_what_is_looked_for_first_leaves_no_secret(parts: list[str]) -> None:
    """The result is that of replacing each form of each secret, the longest first."""
    raw = expected = "".join(parts).encode()
    for mark in SECRETS._marks():
        expected = expected.replace(mark, b"[key]")
    assert SECRETS.scrub(raw) == expected
    assert (SECRETS.scrub(raw) is raw) == (expected == raw)


@pytest.mark.parametrize("key", KEYS)
def test_every_form_is_removed(key: str) -> None:
    """As text, within JSON and within a URL, in the middle of other words."""
    for form in (key, json.dumps(key)[1:-1], quote(key, safe=""), quote(key)):
        assert SECRETS.scrub(f"said {form}!".encode()) == b"said [key]!"
