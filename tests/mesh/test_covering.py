"""Which route match covers which: never said without reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.mesh.covering import CoverIndex, covers
from meshproxy.snapshot import (
    Exact,
    HeaderMatcher,
    Prefix,
    QueryParameterMatcher,
    Regex,
    RouteMatch,
    StringMatcher,
)

from .support import Request, meets

TEXTS = ("a", "ab", "b", "A", "")
PATHS = ("/", "/a", "/A", "/ab", "/a/b", "/b")

TEXT_MATCHERS: tuple[StringMatcher | None, ...] = (
    None,
    *map(Exact, TEXTS),
    *map(Prefix, TEXTS),
    *map(Regex, (".*", "a.*", "a|b", "")),
)
PATH_MATCHERS: tuple[StringMatcher, ...] = (
    *map(Exact, PATHS),
    *map(Prefix, PATHS),
    *map(Regex, (".*", "/a.*", "/[ab]", "/a")),
)
PATH_MATCHES = tuple(RouteMatch(path, case) for path in PATH_MATCHERS for case in (True, False))
HEADER_MATCHES = tuple(
    RouteMatch(headers=(HeaderMatcher("x", matcher, invert, invert and matcher is not None),))
    for matcher in TEXT_MATCHERS
    for invert in (True, False)
)
QUERY_MATCHES = tuple(RouteMatch(query_parameters=(QueryParameterMatcher("q", m),)) for m in TEXT_MATCHERS)

MATCHES = st.builds(
    lambda path, one, other, query: RouteMatch(
        path.path, path.case_sensitive, one.headers + other.headers, query.query_parameters
    ),
    st.sampled_from(PATH_MATCHES),
    st.sampled_from((RouteMatch(), *HEADER_MATCHES)),
    st.sampled_from((RouteMatch(), *HEADER_MATCHES)),
    st.sampled_from((RouteMatch(), *QUERY_MATCHES)),
)
REQUESTS = (
    *map(Request, PATHS),
    *(Request(headers={"x": text}) for text in TEXTS),
    *(Request(query={"q": text}) for text in TEXTS),
)


@pytest.mark.parametrize("matches", [PATH_MATCHES, HEADER_MATCHES, QUERY_MATCHES], ids=["path", "header", "query"])
def test_whatever_a_match_covers_it_also_meets(matches: tuple[RouteMatch, ...]) -> None:
    met = {match: {n for n, request in enumerate(REQUESTS) if meets(request, match)} for match in matches}
    claimed = [(wide, narrow) for wide in matches for narrow in matches if covers(wide, narrow)]
    assert len(claimed) > len(matches)
    assert [(wide, narrow) for wide, narrow in claimed if not met[narrow] <= met[wide]] == []


@given(MATCHES)
def test_a_match_covers_itself_and_itself_with_one_condition_more(match: RouteMatch) -> None:
    assert covers(match, match)
    assert covers(match, replace(match, headers=(*match.headers, HeaderMatcher("more"))))


@given(st.lists(MATCHES, max_size=8), MATCHES)
def test_the_index_finds_what_trying_each_would_find(known: list[RouteMatch], narrow: RouteMatch) -> None:
    index: CoverIndex[int] = CoverIndex()
    for number, match in enumerate(known):
        index.add(match, number)
    assert list(index.covering(narrow)) == [n for n, match in enumerate(known) if covers(match, narrow)]


X_IS_A = HeaderMatcher("x", Exact("a"))


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        (RouteMatch(), RouteMatch(Regex("/x[0-9]+")), True),
        (RouteMatch(Prefix("/a")), RouteMatch(Prefix("/a/b")), True),
        (RouteMatch(Prefix("/a/b")), RouteMatch(Prefix("/a")), False),
        (RouteMatch(Prefix("/a")), RouteMatch(Exact("/ab")), True),
        (RouteMatch(Exact("/a")), RouteMatch(Prefix("/a")), False),
        (RouteMatch(Regex("/v[0-9]")), RouteMatch(Exact("/v1")), True),
        (RouteMatch(Regex("/v[0-9]")), RouteMatch(Prefix("/v1")), False),
        (RouteMatch(Regex("/v[0-9]")), RouteMatch(Regex("/v[0-8]")), False),
        (RouteMatch(Regex(".*")), RouteMatch(Prefix("/v1")), True),
        (RouteMatch(Prefix("/A"), case_sensitive=False), RouteMatch(Exact("/aB")), True),
        (RouteMatch(Prefix("/a")), RouteMatch(Exact("/a"), case_sensitive=False), False),
        (RouteMatch(), RouteMatch(headers=(X_IS_A,)), True),
        (RouteMatch(headers=(X_IS_A,)), RouteMatch(), False),
        (RouteMatch(headers=(HeaderMatcher("x"),)), RouteMatch(headers=(X_IS_A,)), True),
        (RouteMatch(headers=(HeaderMatcher("y"),)), RouteMatch(headers=(X_IS_A,)), False),
    ],
)
def test_a_match_covers_a_narrower_one(wide: RouteMatch, narrow: RouteMatch, covered: bool) -> None:
    assert covers(wide, narrow) is covered
