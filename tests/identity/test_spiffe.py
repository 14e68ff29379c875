"""SPIFFE IDs, by the words of the standard: one spelling, and nothing else is one."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.identity import SpiffeId, spiffe

TRUST_DOMAINS = st.text(string.ascii_lowercase + string.digits + ".-_", min_size=1, max_size=255)
SEGMENTS = st.text(string.ascii_letters + string.digits + ".-_", min_size=1, max_size=40).filter(
    lambda segment: segment not in (".", "..")
)


@given(TRUST_DOMAINS, st.lists(SEGMENTS, max_size=8))
def test_what_the_standard_allows_is_read_and_written_the_same(trust_domain: str, segments: list[str]) -> None:
    text = "/".join([f"spiffe://{trust_domain}", *segments])

    identity = spiffe.parse(text)

    assert str(identity) == text
    assert identity == SpiffeId(trust_domain, "".join(f"/{segment}" for segment in segments))


@given(st.text(max_size=60) | st.text(string.printable, max_size=60).map("spiffe://".__add__))
def test_whatever_is_accepted_has_one_spelling(text: str) -> None:
    try:
        identity = spiffe.parse(text)
    except ValueError:
        return
    assert str(identity) == text
    assert not set(text) - set(string.ascii_letters + string.digits + ":/.-_")
    assert not {"", ".", ".."} & set(identity.path.split("/")[1:])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:",
        "spiffe://",
        "spiffe:///path",
        "https://cluster.local/ns/a/sa/b",
        "SPIFFE://cluster.local/a",
        "spiffe://Cluster.local/a",
        "spiffe://cluster.local:8443/a",
        "spiffe://user@cluster.local/a",
        "spiffe://cluster.local/",
        "spiffe://cluster.local/a/",
        "spiffe://cluster.local//a",
        "spiffe://cluster.local/a/./b",
        "spiffe://cluster.local/a/../b",
        "spiffe://cluster.local/a%2fb",
        "spiffe://cluster.local/a?b",
        "spiffe://cluster.local/a#b",
        "spiffe://cluster.local/ä",
        "spiffe://cluster.local/a\n",
        " spiffe://cluster.local/a",
        "spiffe://" + "a" * 256 + "/b",
        "spiffe://cluster.local/" + "a" * 2048,
    ],
)
def test_what_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        spiffe.parse(text)


def test_a_service_account_is_found_in_istios_form_alone() -> None:
    assert spiffe.parse("spiffe://td/ns/prod/sa/reviews").service_account == ("prod", "reviews")
    assert spiffe.parse("spiffe://td/ns/prod/sa/reviews/more").service_account is None
    assert spiffe.parse("spiffe://td/workload").service_account is None
    assert spiffe.parse("spiffe://td").service_account is None


def test_a_service_account_has_kubernetes_names() -> None:
    assert str(spiffe.of_service_account("td", "prod", "my.app-1")) == "spiffe://td/ns/prod/sa/my.app-1"
    for trust_domain, namespace, account in (
        ("TD", "prod", "reviews"),
        ("td", "pro.d", "reviews"),
        ("td", "Prod", "reviews"),
        ("td", "p" * 64, "reviews"),
        ("td", "prod", "re/views"),
        ("td", "prod", ".."),
        ("td", "prod", "r" * 254),
        ("td", "", "reviews"),
        ("td", "prod", ""),
    ):
        with pytest.raises(ValueError):
            spiffe.of_service_account(trust_domain, namespace, account)
