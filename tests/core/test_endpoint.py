"""From parameters to requests: names checked, ids kept in their segment, everything in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.core.codec.endpoint import Endpoint
from openaiasync.core.model.omitted import omit
from openaiasync.core.policy.request_options import Timeout

CREATE = Endpoint("things.create", "POST", "/things", required="name", optional="size color", body="json", event="x:Y")
LIST = Endpoint(
    "things.list",
    "GET",
    "/things/{thing_id}/parts",
    required="thing_id",
    optional="after include from_",
    query="after include from_",
    wire="include=include[] from_=from",
)
UPDATE = Endpoint("things.update", "POST", "/things/{thing_id}", required="thing_id", optional="name", body="json")


def test_a_body_holds_what_was_given() -> None:
    """Parameters become fields, options do not."""
    request = CREATE.request({"name": "a", "size": None, "timeout": 3, "max_retries": 0})
    assert json.loads(request.body) == {"name": "a", "size": None}
    assert (request.path, request.timeout, request.max_retries) == ("/things", 3, 0)
    assert not request.has_deadline


def test_the_stream_flag_is_sent_only_where_it_was_said() -> None:
    """`stream=None` leaves it out, `False` and `True` are sent."""
    assert b"stream" not in CREATE.request({"name": "a"}).body
    assert json.loads(CREATE.request({"name": "a"}, stream=False).body)["stream"] is False
    request = CREATE.request({"name": "a"}, stream=True)
    assert request.stream
    assert json.loads(request.body)["stream"] is True


def test_unknown_and_missing_parameters_are_named() -> None:
    """`TypeError` with the nearest name, and with the way for what providers add."""
    with pytest.raises(
        TypeError, match=r"things.create\(\) has no parameter 'colour'; did you mean 'color'\?.*extra_body"
    ):
        CREATE.request({"name": "a", "colour": 1})
    with pytest.raises(TypeError, match="is missing the required parameter 'name'"):
        CREATE.request({})
    with pytest.raises(TypeError, match="is missing the required parameter 'name'"):
        CREATE.request({"name": omit})


def test_path_query_and_names() -> None:
    """Ids go into the path, queries get their wire names; nothing of it into a body."""
    request = LIST.request({"thing_id": "t 1", "after": "x/y", "include": ["a", "b"], "from_": 3})
    assert request.path == "/things/t%201/parts?after=x%2Fy&include[]=a&include[]=b&from=3"
    assert request.body is None


@given(
    st.text(min_size=1).filter(
        lambda text: text not in (".", "..") and not any("\ud800" <= c <= "\udfff" for c in text)
    )
)
def test_an_id_is_one_segment(value: str) -> None:
    """Whatever an id holds, it cannot leave its place in the path."""
    path = UPDATE.request({"thing_id": value}).path
    assert path.count("/") == 2
    assert "?" not in path
    assert "#" not in path


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_ids_that_would_change_the_path_are_refused(value: str) -> None:
    """Empty and dot segments are a `ValueError`."""
    with pytest.raises(ValueError, match="Expected a non-empty value for `thing_id` but received"):
        UPDATE.request({"thing_id": value})


def test_an_id_of_another_type_is_refused() -> None:
    """An id is a text."""
    for wrong in (None, True, ["a"]):
        with pytest.raises(TypeError, match="thing_id must be a string"):
            UPDATE.request({"thing_id": wrong})


def test_extras_win() -> None:
    """`extra_body` adds fields and replaces whole ones; `extra_query` is added to what the path has."""
    params: dict[str, Any] = {"name": {"a": 1, "b": 2}, "extra_body": {"name": {"b": 3}, "top_k": 5}}
    assert json.loads(CREATE.request(params).body) == {"name": {"b": 3}, "top_k": 5}
    assert params["name"] == {"a": 1, "b": 2}
    assert LIST.request({"thing_id": "1", "after": "z", "extra_query": {"q": "w"}}).path.endswith("?after=z&q=w")
    assert LIST.request({"thing_id": "1", "after": "z", "extra_query": {"after": "w"}}).path.endswith("?after=w")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": "3"}, TypeError),
        ({"timeout": True}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"deadline": -1}, ValueError),
        ({"max_retries": -1}, ValueError),
        ({"max_retries": 1.5}, ValueError),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    """Clocks are numbers above 0, retries whole numbers from 0 up; anything else says so before sending."""
    with pytest.raises(error):
        CREATE.request({"name": "a", **options})


def test_timeouts_of_both_kinds() -> None:
    """`None`, a number and a `Timeout` are all told apart from "not said"."""
    assert CREATE.request({"name": "a", "timeout": None}).has_timeout
    assert not CREATE.request({"name": "a", "timeout": omit}).has_timeout
    assert CREATE.request({"name": "a", "timeout": Timeout(5, connect=1)}).timeout.connect == 1


def test_a_row_costs_nothing_until_it_is_used() -> None:
    """Tables are made at first use, and a misspelt attribute is still an `AttributeError`."""
    row = Endpoint("a.b", "GET", "/a", optional="x y")
    assert "known" not in vars(row)
    assert row.known == {"x", "y"}
    with pytest.raises(AttributeError):
        _ = row.nothing


class TestWithoutSchema:
    def test_an_open_operation_takes_any_parameter(self) -> None:
        """All but the path parameters go to the body, or to the query if the row says so."""
        sent = Endpoint("x.y", "POST", "/x/{id}", required="id", optional="*", body="json").request(
            {"id": "1", "new": 2}
        )
        assert (sent.path, sent.body) == ("/x/1", b'{"new":2}')
        asked = Endpoint("x.z", "GET", "/x", optional="*", query="*").request({"new": 2, "extra_query": {"b": 1}})
        assert (asked.path, asked.body) == ("/x?new=2&b=1", None)

    def test_it_still_wants_what_it_requires(self) -> None:
        """A path without its id is refused."""
        with pytest.raises(TypeError, match="is missing the required parameter 'id'"):
            Endpoint("x.y", "POST", "/x/{id}", required="id", optional="*", body="json").request({"new": 2})


class TestHeaderParameters:
    ENDPOINT = Endpoint("x.y", "POST", "/x", optional="betas a", body="json", header="betas=openai-beta")

    def test_they_travel_as_fields_and_not_in_the_body(self) -> None:
        """Several values are one list; what the caller names by `extra_headers` is kept."""
        sent = self.ENDPOINT.request({"betas": ["one", "two"], "a": 1, "extra_headers": {"x-more": "3"}})
        assert sent.headers == {"openai-beta": "one,two", "x-more": "3"}
        assert sent.body == b'{"a":1}'

    def test_one_that_is_not_given_is_not_sent(self) -> None:
        """Neither an absent one nor `None`."""
        assert self.ENDPOINT.request({"a": 1}).headers is None
        assert self.ENDPOINT.request({"a": 1, "betas": None}).headers is None

    def test_a_stream_asked_for_without_a_body_is_asked_for_in_the_query(self) -> None:
        """`GET /responses/{id}` can stream."""
        endpoint = Endpoint("x.get", "GET", "/x", optional="a", query="a stream")
        assert endpoint.request({"a": 1}, stream=True).path == "/x?a=1&stream=true"
        assert endpoint.request({"a": 1}).path == "/x?a=1"
