"""Which server a request is for, and which names of a certificate are that one's."""

from __future__ import annotations

import pytest

from meshproxy.proxy.tls.names import (
    AlternativeName,
    alternative_names,
    dns_name_matches,
    has_name,
    meets,
    server_name,
)
from meshproxy.snapshot import Exact, Prefix, Regex, Suffix, ValueMatcher

NAMES = [
    AlternativeName("DNS", "*.example.com"),
    AlternativeName("DNS", "Exact.test"),
    AlternativeName("IP Address", "10.0.0.1"),
    AlternativeName("IP Address", "0:0:0:0:0:0:0:1"),
    AlternativeName("URI", "spiffe://cluster.local/ns/default/sa/a"),
    AlternativeName("email", "me@example.org"),
]


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"example.com", ("example.com", "example.com")),
        (b"example.com:8443", ("example.com", "example.com")),
        (b"example.com:", ("example.com", "example.com")),
        (b"Example.COM", ("Example.COM", "Example.COM")),
        (b"10.0.0.1", ("10.0.0.1", "")),
        (b"10.0.0.1:443", ("10.0.0.1", "")),
        (b"[::1]:443", ("::1", "")),
        (b"[::1]", ("::1", "")),
        (b"", ("", "")),
        (b".example.com", (".example.com", "")),
        (b"a b", ("a b", "a b")),
        (b"a:b", ("a:b", "a:b")),
        ("ä.de".encode(), ("Ã¤.de", "")),
        (b"a" * 256, ("a" * 256, "")),
        (b"a\x00b", ("a\x00b", "")),
    ],
)
def test_the_server_of_an_authority(authority: bytes, expected: tuple[str, str]) -> None:
    assert server_name(authority)[:2] == expected


def test_names_that_differ_in_case_are_one_servers() -> None:
    assert server_name(b"A.test:1").key == server_name(b"a.TEST").key == "a.test"
    assert server_name(b"b.test").key == "b.test"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("a.com", "a.com"),
        ("A.com", "a.COM"),
        ("a.example.com", "*.example.com"),
        ("a.com", "*.com"),
        ("foobar.com", "foo*.com"),
        ("foo.com", "foo*.com"),
        ("foobar.com", "*bar.com"),
        ("foo-x-bar.com", "foo*bar.com"),
        ("localhost", "localhost"),
    ],
)
def test_a_pattern_covers_a_name(name: str, pattern: str) -> None:
    assert dns_name_matches(name, pattern)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("a.com", "b.com"),
        ("a.com", "a.com."),
        ("a.b.example.com", "*.example.com"),
        ("example.com", "*.example.com"),
        ("a.example.com", "*.*.com"),
        ("a.example.com", "a.*.com"),
        ("fobar.com", "foob*ar.com"),
        ("fox.com", "f*x*.com"),
        ("xn--abc.com", "xn--*.com"),
        ("localhost", "*"),
        ("a.com", "*"),
        ("", "*.com"),
    ],
)
def test_a_pattern_does_not_cover_a_name(name: str, pattern: str) -> None:
    assert not dns_name_matches(name, pattern)


@pytest.mark.parametrize(
    "wanted",
    [
        "a.example.com",
        "exact.TEST",
        "10.0.0.1",
        "::1",
        "spiffe://cluster.local/ns/default/sa/a",
        "me@example.org",
        "*.example.com",
    ],
)
def test_a_certificate_has_a_name(wanted: str) -> None:
    assert has_name(NAMES, wanted)
    assert meets(NAMES, [Exact("other"), Exact(wanted)])


@pytest.mark.parametrize(
    "wanted", ["example.com", "10.0.0.2", "::2", "SPIFFE://cluster.local/ns/default/sa/a", "ME@example.org", ""]
)
def test_a_certificate_does_not_have_a_name(wanted: str) -> None:
    assert not has_name(NAMES, wanted)
    assert not meets(NAMES, [Exact(wanted)])


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        (Prefix("spiffe://cluster.local/"), True),
        (Suffix("/sa/a"), True),
        (Regex("spiffe://[^/]*/ns/default/.*"), True),
        (Prefix("spiffe://other/"), False),
        (Regex("spiffe://"), False),
    ],
)
def test_matchers_other_than_exact(matcher: ValueMatcher, expected: bool) -> None:
    assert meets(NAMES, [matcher]) is expected


def test_only_names_that_are_known_count() -> None:
    told = {"subject": (), "subjectAltName": (("DNS", "a.b"), ("DirName", "x"), ("Registered ID", "1.2"))}
    assert alternative_names(told) == [AlternativeName("DNS", "a.b")]
    assert alternative_names({}) == alternative_names(None) == []
