"""Host patterns: cover, longest match, intersection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.mesh.hosts import HostMap, specificity, subset_of

LABELS = st.sampled_from(["a", "b", "com"])
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
PATTERNS = st.one_of(NAMES, NAMES.map("*.{}".format), NAMES.map("*-{}".format), st.just("*"))


@pytest.mark.parametrize(
    ("pattern", "other", "covered"),
    [
        ("foo.com", "foo.com", True),
        ("foo.com", "bar.com", False),
        ("a.foo.com", "*.foo.com", True),
        ("a.b.foo.com", "*.foo.com", True),
        ("foo.com", "*.foo.com", False),
        ("*.foo.com", "*.com", True),
        ("*.com", "*.foo.com", False),
        ("*.foo.com", "a.foo.com", False),
        ("*.com", "*", True),
        ("a-foo.com", "*-foo.com", True),
        ("*", "*", True),
    ],
)
def test_a_wildcard_covers_every_name_with_its_ending_but_not_the_bare_ending(
    pattern: str, other: str, covered: bool
) -> None:
    assert subset_of(pattern, other) is covered


@pytest.mark.parametrize(
    ("server", "service", "common"),
    [
        (["foo.com", "bar.com"], ["*.com"], {"foo.com", "bar.com"}),
        (["foo.com", "*.net"], ["*.com", "bar.net"], {"foo.com", "bar.net"}),
        (["foo.com", "*.net"], ["*.bar.net"], {"*.bar.net"}),
        (["foo.com"], ["bar.com"], set()),
        ([], ["bar.com"], set()),
        (["*"], ["*"], {"*"}),
    ],
)
def test_the_intersection_is_the_narrower_of_each_overlapping_pair(
    server: list[str], service: list[str], common: set[str]
) -> None:
    assert set(HostMap(dict.fromkeys(server)).intersection(service)) == common


@given(st.lists(PATTERNS, unique=True), st.lists(PATTERNS, unique=True))
def test_the_intersection_equals_that_of_all_pairs(one: list[str], other: list[str]) -> None:
    pairs = {h if subset_of(h, o) else o for h in one for o in other if subset_of(h, o) or subset_of(o, h)}
    assert set(HostMap(dict.fromkeys(one)).intersection(other)) == pairs


@given(st.lists(PATTERNS, unique=True), NAMES)
def test_a_host_is_in_the_intersection_exactly_if_both_lists_cover_it(patterns: list[str], host: str) -> None:
    others = ["*.com", "a.b", "*"]
    common = HostMap(dict.fromkeys(patterns)).intersection(others)
    covered = any(subset_of(host, p) for p in patterns) and any(subset_of(host, o) for o in others)
    assert any(subset_of(host, pattern) for pattern in common) is covered


@given(st.lists(PATTERNS, unique=True), PATTERNS)
def test_the_best_pattern_is_the_most_specific_that_covers(patterns: list[str], host: str) -> None:
    covering = [pattern for pattern in patterns if subset_of(host, pattern)]
    best = min(covering, key=specificity, default=None)
    assert HostMap({pattern: pattern for pattern in patterns}).best(host) == best
