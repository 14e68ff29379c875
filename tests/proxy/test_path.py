"""Path normalisation, against what Envoy 1.40 sent upstream: `path_normalisation.tsv` is measured, `input TAB path`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.proxy.http.failures import PATH_NORMALIZATION_FAILED, Failure
from meshproxy.proxy.http.path import normalize

_TABLE = Path(__file__).with_name("path_normalisation.tsv").read_bytes()
MEASURED = [(before, after) for before, _, after in (line.partition(b"\t") for line in _TABLE.splitlines())]

_paths = st.lists(
    st.sampled_from(
        [
            *(b"/", b"/", b".", b"..", b"/../", b"/./", b"\\", b"%2e", b"%2E", b"%2f", b"%5c", b"%41", b"%", b"%2"),
            *(b"%zz", b";", b";x", b"a", b'"', b"<", b"|", b"`", b"~", b"[", b"%25", b"//"),
        ]
    ),
    max_size=12,
).map(lambda parts: b"/" + b"".join(parts))


def test_every_measured_path_becomes_what_envoy_made_of_it() -> None:
    assert len(MEASURED) > 450
    assert {before: normalize(before) for before, _ in MEASURED} == dict(MEASURED)


@pytest.mark.parametrize("path", [b"/a/%00b", b"/a%00", b"/%00?q", b"/%00/../a"])
def test_an_escaped_nul_is_refused(path: bytes) -> None:
    with pytest.raises(Failure) as caught:
        normalize(path)

    assert caught.value.kind is PATH_NORMALIZATION_FAILED


def test_an_escaped_nul_in_the_query_is_let_pass() -> None:
    assert normalize(b"/a/../b?c=%00") == b"/b?c=%00"


@given(_paths, st.sampled_from([b"", b"?", b"?a=/../b", b"?a=%2e%41\\<", b"?a?b"]))
def test_the_query_is_left_as_it_is(path: bytes, query: bytes) -> None:
    assert normalize(path + query) == normalize(path) + query


@given(_paths)
def test_no_dot_segment_is_left_and_the_path_stays_a_path(path: bytes) -> None:
    normalized = normalize(path)

    assert normalized.startswith(b"/")
    assert not {b".", b".."} & set(normalized.split(b"/"))


@given(_paths)
def test_nothing_is_left_that_may_not_stand_bare(path: bytes) -> None:
    assert not set(b'\\"<>^`{|}') & set(normalize(path))


def test_unescaping_makes_no_escape_of_what_was_none() -> None:
    assert normalize(b"/%%34%31") == b"/%2541"


def test_as_in_envoy_normalising_twice_is_not_normalising_once() -> None:
    """A parameter behind an escaped dot segment is seen only by who reads the path the next time."""
    assert normalize(b"/a/%2e%2e;/b") == b"/a/..;/b"
    assert normalize(b"/a/..;/b") == b"/b"


def test_asterisk_and_the_empty_path_of_connect_stay() -> None:
    assert (normalize(b"*"), normalize(b""), normalize(b"?q=/../%41")) == (b"*", b"", b"?q=/../%41")
