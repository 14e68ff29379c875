"""Lists of fields."""

from __future__ import annotations

from meshproxy.proxy.http.message import Response, header, remove_headers, set_header

from .made import made_request

FIELDS = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"c", b"4")]


def test_of_several_fields_the_first_is_the_header() -> None:
    assert header(FIELDS, b"a") == b"1"
    assert header(FIELDS, b"x") is None


def test_a_header_is_set_in_the_place_of_the_first_of_its_name() -> None:
    fields = list(FIELDS)

    set_header(fields, b"a", b"new")

    assert fields == [(b"a", b"new"), (b"b", b"2"), (b"c", b"4")]


def test_a_header_that_was_not_there_is_set_at_the_end() -> None:
    fields = list(FIELDS)

    set_header(fields, b"x", b"new")

    assert fields == [*FIELDS, (b"x", b"new")]


def test_headers_are_removed_by_name() -> None:
    assert remove_headers(FIELDS, frozenset((b"a", b"x"))) == [(b"b", b"2"), (b"c", b"4")]


def test_requests_and_responses_tell_what_they_are() -> None:
    assert repr(made_request(b"/a?b", method=b"PUT")) == "<Request PUT h.example/a?b>"
    assert repr(Response(404, [])) == "<Response 404>"
