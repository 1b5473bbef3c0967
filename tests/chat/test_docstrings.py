"""Descriptions out of docstrings: the three styles say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.chat.signatures import read_docstring

GOOGLE = """Tell the weather.

Asked of a server,
each time.

Args:
    town: The town, as
        people call it.
    days (int): How many: 1 to 7.
    *units: either

Returns:
    str: the weather
"""
NUMPY = """
    Tell the weather.

    Asked of a server,
    each time.

    Parameters
    ----------
    town : str
        The town, as
        people call it.
    days : int, optional
        How many: 1 to 7.
    *units
        either

    Returns
    -------
    str
        the weather
"""
REST = """Tell the weather.

Asked of a server,
each time.

:param town: The town, as
    people call it.
:param int days: How many: 1 to 7.
:param *units: either
:type town: str
:returns: the weather
:raises ValueError: never
"""


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, REST], ids=["Google", "numpy", "reST"])
def test_the_three_styles(text: str) -> None:
    """Description and parameters are told apart; what is returned is no concern of the model."""
    assert read_docstring(text) == (
        "Tell the weather.\n\nAsked of a server, each time.",
        {"town": "The town, as people call it.", "days": "How many: 1 to 7.", "units": "either"},
    )


def test_parameters_that_share_a_numpy_entry() -> None:
    """`x, y : float` describes both."""
    text = "Add.\n\nParameters\n----------\nx, y : float\n    A number.\n"
    assert read_docstring(text) == ("Add.", {"x": "A number.", "y": "A number."})


def test_lists_in_the_description_keep_their_lines() -> None:
    """Only running text is joined."""
    text = "Choose one of\n\n- red\n- green,\n  the colour\n\nand wait\na while."
    described, _ = read_docstring(text)
    assert described == "Choose one of\n\n- red\n- green,\n  the colour\n\nand wait a while."


@pytest.mark.parametrize("text", [None, "", "   \n  "])
def test_nothing_is_said(text: str | None) -> None:
    """Without a docstring there is no description."""
    assert read_docstring(text) == ("", {})


def test_a_heading_is_one_only_at_the_margin_and_alone() -> None:
    """Words that are headings elsewhere stay words in a sentence."""
    text = "Returns: the sum.\n\nThe args: are many.\n\nNote that\nReturns nothing."
    assert read_docstring(text) == (
        "Returns: the sum.\n\nThe args: are many.\n\nNote that Returns nothing.",
        {},
    )


@given(st.text(alphabet=st.sampled_from("ab:*-_() \n\tArgs:Parameters")) | st.text())
def test_any_text_is_taken(text: str) -> None:
    """A docstring written by no rule is a description at worst, never an error."""
    described, parameters = read_docstring(text)
    assert isinstance(described, str)
    assert all(isinstance(value, str) for value in parameters.values())
