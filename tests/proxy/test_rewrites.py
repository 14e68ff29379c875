"""New paths from old ones, as Envoy 1.40 was measured to make them."""

from __future__ import annotations

import pytest

from meshproxy.proxy.routing.rewrites import rewrite
from meshproxy.snapshot import Exact, Prefix, Regex, RegexRewrite, StringMatcher


@pytest.mark.parametrize(
    ("match", "replacement", "path", "expected"),
    [
        (Prefix("/pre/"), "/new/", b"/pre/a?x=1", b"/new/a?x=1"),
        (Prefix("/pre"), "/", b"/pre?x=1", b"/?x=1"),
        (Prefix("/pre"), "/", b"/prefix/z", b"/fix/z"),
        (Prefix("/pfull"), "/", b"/pfull/a", b"//a"),
        (Prefix("/psp"), "/q", b"/psp", b"/q"),
        (Exact("/exact"), "/other", b"/exact", b"/other"),
        (Exact("/exact"), "/other", b"/exact?q=1", b"/other?q=1"),
        (Exact("/hdrq"), "/other?z=1", b"/hdrq?a=2", b"/other?z=1?a=2"),
        (Prefix("/Pre/"), "/new/", b"/pRE/A", b"/new/A"),
        (Regex("/v[0-9]+/.*"), "/other", b"/v1/a?q=/v2/", b"/other?q=/v2/"),
    ],
)
def test_prefix_rewrite_replaces_what_matched(
    match: StringMatcher, replacement: str, path: bytes, expected: bytes
) -> None:
    new_path = rewrite(match, replacement, None)

    assert new_path is not None
    assert new_path(path) == expected


@pytest.mark.parametrize(
    ("pattern", "substitution", "path", "expected"),
    [
        pytest.param(r"^/rx/(\d+)", r"/id-\1", b"/rx/12/a?n=/rx/3", b"/id-12/a?n=/rx/3", id="the query is left alone"),
        pytest.param(r"^/rx/(\d+)", r"/id-\1", b"/rx/aa", b"/rx/aa", id="no match, no change"),
        pytest.param("[a-z]", "Z", b"/ryab?abc", b"/ZZZZ?abc", id="all matches"),
        pytest.param("x", r"<\0\\>", b"/rx3/x", rb"/r<x\>3/<x\>", id="the whole match, and a backslash"),
        pytest.param("a*", "x", b"/rxe/baaac", b"x/xrxxxex/xbxcx", id="empty matches"),
        pytest.param("x", r"\2", b"/rx2", b"/rx2", id="a group that there is not"),
        pytest.param("(a)|(b)", r"[\1\2]", b"/ab", b"/[a][b]", id="a group that took no part"),
        pytest.param("^/(a)/(b)$", r"/\2/\1", b"/a/b", b"/b/a", id="two groups"),
        pytest.param("/a", "", b"/a/b", b"/b", id="nothing in its place"),
    ],
)
def test_regex_rewrite_replaces_every_match_in_the_path(
    pattern: str, substitution: str, path: bytes, expected: bytes
) -> None:
    new_path = rewrite(Prefix("/"), None, RegexRewrite(pattern, substitution))

    assert new_path is not None
    assert new_path(path) == expected


def test_a_route_that_rewrites_nothing_has_no_rewrite() -> None:
    assert rewrite(Prefix("/"), None, None) is None
