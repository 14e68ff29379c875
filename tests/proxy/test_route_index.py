"""The index of routes finds what trying each route in the order of rules finds."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.proxy.http.message import Headers, Request
from meshproxy.proxy.routing.index import RouteIndex
from meshproxy.proxy.routing.matchers import route_test
from meshproxy.snapshot import Exact, HeaderMatcher, Prefix, QueryParameterMatcher, Regex, RouteMatch

from .made import made_request

# So few letters that paths, prefixes and expressions meet, and that some are as long as others of another case.
TEXTS = st.text("/aBé", max_size=5)
PATHS = st.one_of(
    st.builds(Exact, TEXTS),
    st.builds(Prefix, TEXTS),
    st.builds(Regex, st.sampled_from((".*", "/a.*", ".*B", "/", ""))),
)
HEADERS = st.sampled_from([(), (HeaderMatcher("x-user"),), (HeaderMatcher("x-user", Exact("u"), invert=True),)])
PARAMETERS = st.sampled_from([(), (), (QueryParameterMatcher("q", Exact("1")),)])
MATCHES = st.builds(RouteMatch, PATHS, st.sampled_from((True, True, False)), HEADERS, PARAMETERS)
FIELDS: st.SearchStrategy[Headers] = st.sampled_from([[], [(b"x-user", b"u")], [(b"x-user", b"v")]])


@given(
    st.lists(MATCHES, max_size=30),
    st.lists(st.tuples(TEXTS.map(str.encode) | st.binary(max_size=3), st.sampled_from((b"", b"?q=1")), FIELDS)),
)
def test_what_is_found_is_what_a_scan_finds(
    matches: list[RouteMatch], requests: list[tuple[bytes, bytes, Headers]]
) -> None:
    index = RouteIndex(matches)

    for path, query, headers in requests:
        request = made_request(path + query, headers=headers)
        path = request.path.partition(b"?")[0]
        assert index.find(request, path) == scan(matches, request, path)


def scan(matches: Sequence[RouteMatch], request: Request, path: bytes) -> int | None:
    return next((number for number, match in enumerate(matches) if route_test(match)(request, path)), None)


class Counted(bytes):
    """A path that counts how often it is compared with another."""

    comparisons = 0

    def startswith(self, *arguments: object) -> bool:
        self.comparisons += 1
        return super().startswith(*arguments)  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        self.comparisons += 1
        return super().__eq__(other)

    def __lt__(self, other: bytes) -> bool:
        self.comparisons += 1
        return super().__lt__(other)

    __hash__ = bytes.__hash__


def test_a_thousand_plain_paths_take_a_few_comparisons() -> None:
    plain = [RouteMatch(kind(f"/{kind.__name__}/{n}/")) for n in range(500) for kind in (Exact, Prefix)]
    index = RouteIndex((*plain, RouteMatch(Prefix("/"))))

    for place, path in ((999, Counted(b"/Prefix/499/x")), (0, Counted(b"/Exact/0/")), (1000, Counted(b"/Prefix/5"))):
        assert index.find(made_request(path), path) == place
        assert 0 < path.comparisons < 20


def test_routes_of_one_path_are_tried_in_the_order_of_rules() -> None:
    header = (HeaderMatcher("x-user"),)
    matches = [
        RouteMatch(Prefix("/a"), headers=header),
        RouteMatch(Regex("/a/b|/c"), headers=header),
        RouteMatch(Exact("/a/b")),
        RouteMatch(Prefix("/a")),
        RouteMatch(Regex("/.*")),
        RouteMatch(Exact("/a/b"), headers=header),
    ]
    index = RouteIndex(matches)

    def found(path: bytes, headers: Headers) -> int | None:
        return index.find(made_request(path, headers=headers), path)

    user = [(b"x-user", b"u")]
    assert [found(path, user) for path in (b"/a", b"/a/b", b"/c", b"/d")] == [0, 0, 1, 4]
    assert [found(path, []) for path in (b"/a", b"/a/b", b"/c", b"/d", b"d")] == [3, 2, 4, 4, None]
