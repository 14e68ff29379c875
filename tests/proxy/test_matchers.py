"""Conditions on requests, as Envoy 1.40 was measured to match them."""

from __future__ import annotations

import pytest
import re2

from meshproxy.proxy.http.message import Headers
from meshproxy.proxy.routing.matchers import compile_regex, path_test, query_parameter, route_test, string_test
from meshproxy.snapshot import (
    Exact,
    HeaderMatcher,
    Prefix,
    QueryParameterMatcher,
    Regex,
    RouteMatch,
    StringMatcher,
)

from .made import made_request

_X_H: list[tuple[str, list[bytes]]] = [
    ("missing", []),
    ("empty", [b""]),
    ("a", [b"a"]),
    ("a and b", [b"a", b"b"]),
    ("a,b in one", [b"a,b"]),
    ("pre-x", [b"pre-x"]),
    ("axb", [b"axb"]),
    ("HELLO", [b"HELLO"]),
    ("b and a", [b"b", b"a"]),
    ("5", [b"5"]),
    ("empty and a", [b"", b"a"]),
]
# A row for each matcher of x-h, a column for each of _X_H.
_HEADER_TABLE: list[tuple[str, HeaderMatcher, str]] = [
    ("exact a,b", HeaderMatcher("x-h", Exact("a,b")), "nnnnYnnnnnn"),
    ("exact a", HeaderMatcher("x-h", Exact("a")), "nnYYnnnnYnY"),
    ("exact nothing", HeaderMatcher("x-h", Exact("")), "nYnnnnnnnnY"),
    ("prefix pre", HeaderMatcher("x-h", Prefix("pre")), "nnnnnYnnnnn"),
    ("prefix a", HeaderMatcher("x-h", Prefix("a")), "nnYYYnYnYnY"),
    ("regex a.b", HeaderMatcher("x-h", Regex("a.b")), "nnnnYnYnnnn"),
    ("regex of a part", HeaderMatcher("x-h", Regex("re-")), "nnnnnnnnnnn"),
    ("regex that ignores case", HeaderMatcher("x-h", Regex("(?i)hello")), "nnnnnnnYnnn"),
    ("regex of anything", HeaderMatcher("x-h", Regex(".*")), "nYYYYYYYYYY"),
    ("present", HeaderMatcher("x-h"), "nYYYYYYYYYY"),
    ("absent", HeaderMatcher("x-h", invert=True), "Ynnnnnnnnnn"),
    ("not exact a", HeaderMatcher("x-h", Exact("a"), invert=True), "nYnnYYYYnYn"),
    ("not regex a.*", HeaderMatcher("x-h", Regex("a.*"), invert=True), "nYnnnYnYnYn"),
    (
        "not exact a, missing is empty",
        HeaderMatcher("x-h", Exact("a"), invert=True, treat_missing_header_as_empty=True),
        "YYnnYYYYnYn",
    ),
    (
        "exact nothing, missing is empty",
        HeaderMatcher("x-h", Exact(""), treat_missing_header_as_empty=True),
        "YYnnnnnnnnY",
    ),
]


@pytest.mark.parametrize(
    ("values", "met"),
    [([b"a"], True), ([b"a", b"b"], False), ([b"b", b"a"], False), ([b"a", b""], True), ([b"", b"a"], True)],
)
def test_fields_that_envoy_keeps_as_one_are_one_to_a_condition(values: list[bytes], met: bool) -> None:
    headers: Headers = [(b"accept", value) for value in values]
    test = route_test(RouteMatch(headers=(HeaderMatcher("accept", Exact("a")),)))

    assert test(made_request(headers=headers), b"/") is met


@pytest.mark.parametrize(
    ("matcher", "values", "expected"),
    [
        pytest.param(matcher, values, answer == "Y", id=f"{name}: {case}")
        for name, matcher, row in _HEADER_TABLE
        for (case, values), answer in zip(_X_H, row, strict=True)
    ],
)
def test_header_matchers(matcher: HeaderMatcher, values: list[bytes], expected: bool) -> None:
    headers: Headers = [(b"x-other", b"a"), *((b"x-h", value) for value in values)]
    test = route_test(RouteMatch(headers=(matcher,)))

    assert test(made_request(headers=headers), b"/") is expected


_QUERIES = [
    *("", "?", "?a", "?a=", "?a=1", "?a=1&a=2", "?a=2&a=1", "?b=1&a=1", "?a=%31", "?a=a%20b", "?a=a+b", "?A=1"),
    *("?%61=1", "?a=abc", "?a=12x", "?a=1;b", "?a==1", "?&&a=1", "?ab=1"),
]
_QUERY_TABLE: list[tuple[str, QueryParameterMatcher, str]] = [
    ("exact 1", QueryParameterMatcher("a", Exact("1")), "nnnnYYnYnnnnnnnnnYn"),
    ("exact nothing", QueryParameterMatcher("a", Exact("")), "nnYYnnnnnnnnnnnnnnn"),
    ("exact a b", QueryParameterMatcher("a", Exact("a b")), "nnnnnnnnnnnnnnnnnnn"),
    ("exact a%20b", QueryParameterMatcher("a", Exact("a%20b")), "nnnnnnnnnYnnnnnnnnn"),
    ("present", QueryParameterMatcher("a"), "nnYYYYYYYYYnnYYYYYn"),
    ("regex of digits", QueryParameterMatcher("a", Regex(r"\d+")), "nnnnYYYYnnnnnnnnnYn"),
    ("prefix ab", QueryParameterMatcher("a", Prefix("ab")), "nnnnnnnnnnnnnYnnnnn"),
    ("a name is not decoded either", QueryParameterMatcher("a b"), "nnnnnnnnnnnnnnnnnnn"),
]


@pytest.mark.parametrize(
    ("matcher", "query", "expected"),
    [
        pytest.param(matcher, query, answer == "Y", id=f"{name}: {query or 'none'}")
        for name, matcher, row in _QUERY_TABLE
        for query, answer in zip(_QUERIES, row, strict=True)
    ],
)
def test_query_parameter_matchers(matcher: QueryParameterMatcher, query: str, expected: bool) -> None:
    test = route_test(RouteMatch(query_parameters=(matcher,)))

    assert test(made_request(b"/p" + query.encode()), b"/p") is expected


def test_the_first_parameter_of_a_name_counts() -> None:
    assert query_parameter(b"/?a=2&a=1", b"a") == b"2"
    assert query_parameter(b"/?b", b"a") is None


@pytest.mark.parametrize(
    ("match", "case_sensitive", "path", "expected"),
    [
        (Exact("/ex"), True, b"/ex", True),
        (Exact("/ex"), True, b"/ex/", False),
        (Exact("/ex"), True, b"/EX", False),
        (Exact("/ex"), True, b"/ex%3F", False),
        (Exact("/Ic"), False, b"/iC", True),
        (Prefix("/pI/"), False, b"/Pi/x", True),
        (Prefix("/ps"), True, b"/ps", True),
        (Prefix("/ps"), True, b"/psx", True),
        (Prefix("/ps/"), True, b"/ps", False),
        (Prefix("/zz?a"), True, b"/zz", False),
        (Regex(r"/rx/\d+"), True, b"/rx/12", True),
        (Regex(r"/rx/\d+"), True, b"/rx/12/", False),
        (Regex(r"/rx/\d+"), True, b"/rx/12a", False),
        (Regex(r"/rx/\d+"), True, b"/a/rx/12", False),
        (Regex("/RX"), False, b"/rx", False),
        (Regex(r".*\.png"), True, b"/x.png", True),
        (Exact("/a%20b"), True, b"/a%20b", True),
        (Exact("/a b"), True, b"/a%20b", False),
    ],
)
def test_path_matchers(match: StringMatcher, case_sensitive: bool, path: bytes, expected: bool) -> None:
    assert path_test(match, case_sensitive)(path) is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (":method", "PUT"),
        (":authority", "h:80"),
        ("host", "h:80"),
        (":scheme", "http"),
        (":path", "/p?q=1"),
        ("x-a", "1"),
    ],
)
def test_parts_of_the_request_line_are_matched_by_their_pseudo_headers(name: str, value: str) -> None:
    request = made_request(b"/p?q=1", method=b"PUT", authority=b"h:80", headers=[(b"x-a", b"1")])

    assert route_test(RouteMatch(headers=(HeaderMatcher(name, Exact(value)),)))(request, b"/p")
    assert not route_test(RouteMatch(headers=(HeaderMatcher(name, Exact(value + "x")),)))(request, b"/p")


@pytest.mark.parametrize("missing", ["path", "header", "other header", "query"])
def test_a_route_matches_only_when_all_its_conditions_hold(missing: str) -> None:
    match = RouteMatch(
        path=Prefix("/p"),
        headers=(HeaderMatcher("x-a"), HeaderMatcher("x-b")),
        query_parameters=(QueryParameterMatcher("q"),),
    )
    headers = [(b"x-a", b""), (b"x-b", b"")]
    test = route_test(match)

    assert test(made_request(b"/p?q", headers=headers), b"/p")
    path = b"/x" if missing == "path" else b"/p"
    query = b"" if missing == "query" else b"?q"
    dropped = {"header": headers[1:], "other header": headers[:1]}.get(missing, headers)
    assert not test(made_request(path + query, headers=dropped), path)


def test_a_regex_cannot_be_made_slow() -> None:
    """`re` would need 2**40 steps for this; RE2 goes over the text once."""
    assert not string_test(Regex("(a*)*b"))(b"a" * 40)


def test_a_regex_sees_bytes() -> None:
    dot, letter = string_test(Regex("a.b")), string_test(Regex("aéb"))

    assert dot(b"a\xe9b")
    assert not dot("aéb".encode())
    assert letter("aéb".encode())


def test_a_bad_regex_is_an_error_of_re2() -> None:
    with pytest.raises(re2.error):
        compile_regex("(")
