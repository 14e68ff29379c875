"""Which filter chain a connection is for."""

from __future__ import annotations

import pytest

from meshproxy.proxy.filter_chains import ChainIndex
from meshproxy.proxy.tls.client_hello import ClientHello
from meshproxy.snapshot import FilterChainMatch as Match


def index(**matches: Match) -> ChainIndex[str]:
    return ChainIndex([(match, name) for name, match in matches.items()])


def asks(server_name: str = "", *protocols: str) -> ClientHello:
    return ClientHello(server_name, protocols)


def test_a_single_chain_that_matches_everything_needs_no_look() -> None:
    assert index(all=Match()).only == "all"
    assert index(tls=Match(transport_protocol="tls")).only is None
    assert index(one=Match(("a.test",)), all=Match()).only is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.test", "exact"),
        ("b.a.test", "below"),
        ("c.b.a.test", "below"),
        ("x.test", "test"),
        ("test", "rest"),
        ("a.org", "rest"),
        ("", "rest"),
    ],
)
def test_the_most_specific_server_name_decides(name: str, found: str) -> None:
    chains = index(
        rest=Match(), test=Match(("*.test",)), below=Match(("*.a.test", "other.org")), exact=Match(("a.test",))
    )
    assert chains.find(asks(name)) == found
    assert chains.find(None) == "rest"


def test_what_no_chain_is_for_is_not_found() -> None:
    chains = index(a=Match(("a.test",)), b=Match(("*.b.test",)))
    assert [chains.find(one) for one in (asks("b.test"), asks("c.test"), asks(), None)] == [None] * 4


def test_tls_and_plain_text_on_one_port_have_chains_of_their_own() -> None:
    chains = index(tls=Match(transport_protocol="tls"), plain=Match(transport_protocol="raw_buffer"))
    assert (chains.find(asks()), chains.find(asks("a.test")), chains.find(None)) == ("tls", "tls", "plain")
    mixed = index(tls=Match(transport_protocol="tls"), rest=Match())
    assert (mixed.find(asks()), mixed.find(None)) == ("tls", "rest")


def test_of_the_protocols_that_a_client_offers_the_first_that_has_a_chain_decides() -> None:
    mutual = Match(transport_protocol="tls", application_protocols=("istio", "istio-http/1.1"))
    chains = index(mutual=mutual, tls=Match(transport_protocol="tls"), plain=Match(transport_protocol="raw_buffer"))
    assert chains.find(asks("x", "istio-http/1.1", "h2")) == "mutual"
    assert chains.find(asks("x", "h2", "istio")) == "mutual"
    assert chains.find(asks("x", "h2")) == chains.find(asks("x")) == "tls"


def test_there_is_no_way_back_to_a_less_specific_name() -> None:
    chains = index(named=Match(("a.test",), "tls", ("h2",)), rest=Match())
    assert chains.find(asks("a.test", "h2")) == "named"
    assert chains.find(asks("a.test", "http/1.1")) is None
    assert chains.find(asks("b.test", "http/1.1")) == "rest"


def test_two_chains_that_match_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="match alike"):
        index(one=Match(("a.test", "b.test")), two=Match(("b.test",)))
