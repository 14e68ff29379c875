"""Peers that were verified before are not verified again, for as long as that is right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshproxy.identity import Authority, Credentials, NotVerified, peers, verify_peer
from meshproxy.identity.peers import Peers

from .support import NOW, RATINGS, REVIEWS, credentials


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def der(held: Credentials) -> list[bytes]:
    return [one.public_bytes(Encoding.DER) for one in held.issued.chain]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The leaves of the chains that were verified, one for each time."""
    leaves: list[object] = []

    def counted(chain: Sequence[object], **more: object) -> object:
        leaves.append(chain[0])
        return verify_peer(chain, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("meshproxy.identity.peers.verify_peer", counted)
    return leaves


def peers_of(authority: Authority, clock: Clock) -> Peers:
    trusted = authority.trusted()
    return Peers(roots=trusted.roots, crls=trusted.crls, trust_domains=("cluster.local",), clock=clock)


def test_each_chain_is_verified_once_for_a_while(authority: Authority, clock: Clock, verified: list[object]) -> None:
    known = peers_of(authority, clock)
    reviews, ratings = der(credentials(authority)), der(credentials(authority, RATINGS))

    assert [known.verify(one).id for one in (reviews, ratings, reviews)] == [REVIEWS, RATINGS, REVIEWS]
    assert len(verified) == 2
    clock.now += timedelta(minutes=5)
    known.verify(reviews)
    assert len(verified) == 3


def test_nobody_is_believed_for_longer_than_their_certificate_says(authority: Authority, clock: Clock) -> None:
    known = peers_of(authority, clock)
    held = credentials(authority)
    end = held.issued.leaf.not_valid_after_utc
    clock.now = end - timedelta(seconds=1)
    known.verify(der(held))

    clock.now = end + timedelta(seconds=1)

    with pytest.raises(NotVerified, match="has expired"):
        known.verify(der(held))


def test_a_leaf_that_was_verified_says_nothing_of_it_behind_another_chain(authority: Authority, clock: Clock) -> None:
    known = peers_of(authority, clock)
    chain = der(credentials(authority))
    known.verify(chain)

    with pytest.raises(NotVerified):
        known.verify(chain[:1])


@pytest.mark.parametrize("chain", [[], [b""], [b"\x30\x03\x02\x01\x01"], [b"x"] * 9])
def test_what_is_no_chain_is_refused(authority: Authority, clock: Clock, chain: list[bytes]) -> None:
    with pytest.raises(NotVerified):
        peers_of(authority, clock).verify(chain)


def test_only_so_many_are_remembered(
    authority: Authority, clock: Clock, verified: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_REMEMBERED", 2)
    known = peers_of(authority, clock)
    chains = [der(credentials(authority)) for _ in range(3)]
    for chain in (*chains, chains[2], chains[1]):
        known.verify(chain)
    assert len(verified) == 3

    known.verify(chains[0])

    assert len(verified) == 4
