"""A running proxy's identity: what it is told of, what it keeps, and what it says when there is none."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from meshproxy.identity import (
    Authority,
    Credentials,
    IdentityError,
    Issued,
    NotVerified,
    Refused,
    WorkloadIdentity,
    read_credentials,
    verify_peer,
    write_credentials,
)
from meshproxy.identity.client import Obtain, Unreachable
from meshproxy.identity.signing_requests import parse_request

from .support import NOW, RATINGS, REVIEWS, credentials


def clock() -> datetime:
    """The time of day by trio's mock clock, which began at `NOW`; without that, it is always `NOW`."""
    on_mock_clock = isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    return NOW + timedelta(seconds=trio.current_time()) if on_mock_clock else NOW


def ca_of(authority: Authority, lifetime: timedelta = timedelta(hours=24)) -> Obtain:
    async def sign(request: bytes, current: Credentials | None) -> Issued:
        return authority.issue(parse_request(request).public_key, REVIEWS, clock(), lifetime)

    return sign


def refusing(error: IdentityError) -> Obtain:
    async def refuse(request: bytes, current: Credentials | None) -> Issued:
        raise error

    return refuse


def identity(ca: Obtain, authority: Authority | None = None, kept: Path | None = None) -> WorkloadIdentity:
    async def trusted() -> Issued:
        assert authority is not None
        return authority.trusted()  # not in a thread, of which the mock clock would know nothing

    looked_at = None if authority is None else trusted
    return WorkloadIdentity(ca, REVIEWS, clock=clock, chance=lambda: 0.5, trusted=looked_at, kept=kept)


async def told(one: WorkloadIdentity, until_s: float) -> list[Credentials]:
    got: list[Credentials] = []
    with trio.move_on_after(until_s):
        await one.run(got.append)
    return got


async def test_it_is_told_of_at_once_and_again_at_half_of_its_life(
    authority: Authority, autojump_clock: trio.testing.MockClock
) -> None:
    one = identity(ca_of(authority, timedelta(hours=2)))

    got = await told(one, 3 * 3600 + 60)

    assert len(got) == 4
    assert one.current == got[-1]
    assert len({each.issued.leaf.serial_number for each in got}) == 4


async def test_a_refusal_at_the_start_ends_it(authority: Authority, autojump_clock: trio.testing.MockClock) -> None:
    one = identity(refusing(Refused(403, "the token is for somebody else")))

    with pytest.raises(ExceptionGroup) as raised:
        await told(one, 60)

    assert raised.group_contains(Refused, match="somebody else")


async def test_while_there_is_none_it_says_why(authority: Authority, autojump_clock: trio.testing.MockClock) -> None:
    one = identity(refusing(Unreachable("the CA at ca.test:15012 cannot be reached")))

    assert await told(one, 60) == []
    assert one.obstacle() == "no identity yet: the CA at ca.test:15012 cannot be reached"
    assert one.current is None


async def test_a_certificate_that_has_expired_is_an_obstacle_and_one_that_is_not_renewed_yet_is_none(
    authority: Authority, autojump_clock: trio.testing.MockClock
) -> None:
    answers = [ca_of(authority, timedelta(hours=2)), *[refusing(Unreachable("gone"))] * 999]

    async def ca(request: bytes, current: Credentials | None) -> Issued:
        return await answers.pop(0)(request, current)

    one = identity(ca)

    await told(one, 1.5 * 3600)
    assert (one.trouble, one.obstacle()) == ("gone", None)
    await trio.sleep(3600)
    assert one.obstacle() is not None
    assert "has expired" in (one.obstacle() or "") and "gone" in (one.obstacle() or "")


async def test_what_the_ca_revokes_and_trusts_is_told_of_without_a_renewal(
    authority: Authority, autojump_clock: trio.testing.MockClock
) -> None:
    one = identity(ca_of(authority), authority)
    got: list[Credentials] = []
    other = credentials(authority, RATINGS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, got.append)
        await trio.sleep(7)
        assert len(got) == 1
        authority.revoke(other.issued.leaf, clock())
        await trio.sleep(7)
        authority.rotate_root(clock())
        await trio.sleep(7)
        nursery.cancel_scope.cancel()

    assert len(got) == 3
    assert len({each.issued.leaf.serial_number for each in got}) == 1
    verify_peer(
        other.issued.chain,
        roots=got[0].issued.roots,
        crls=got[0].issued.crls,
        now=clock(),
        trust_domains=("cluster.local",),
    )
    with pytest.raises(NotVerified, match="revoked"):
        verify_peer(
            other.issued.chain,
            roots=got[1].issued.roots,
            crls=got[1].issued.crls,
            now=clock(),
            trust_domains=("cluster.local",),
        )
    assert [len(each.issued.roots) for each in got] == [1, 1, 2]


async def until_kept(one: WorkloadIdentity, kept: Path) -> Credentials:
    """What it has, once that is kept too. Files are written in threads, of which no mock clock knows."""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run, lambda credentials: None)
            while True:
                await trio.lowlevel.checkpoint()
                with contextlib.suppress(IdentityError):
                    if one.current is not None and read_credentials(kept).issued == one.current.issued:
                        break
            nursery.cancel_scope.cancel()
    assert one.current is not None
    return one.current


async def test_another_process_goes_on_with_what_is_kept(authority: Authority, tmp_path: Path) -> None:
    kept = tmp_path / "mine"
    first = await until_kept(identity(ca_of(authority), kept=kept), kept)

    second = await until_kept(identity(refusing(Refused(401, "used before")), kept=kept), kept)

    assert second.issued == first.issued


@pytest.mark.parametrize("what", ["another's", "an old one", "damaged"])
async def test_what_is_kept_and_of_no_use_is_replaced(authority: Authority, tmp_path: Path, what: str) -> None:
    kept = tmp_path / "mine"
    before = NOW - timedelta(hours=48) if what == "an old one" else NOW
    held = credentials(authority, RATINGS if what == "another's" else REVIEWS, before)
    write_credentials(kept, held)
    if what == "damaged":
        (kept / "key.pem").write_text("no key")

    got = await until_kept(identity(ca_of(authority), kept=kept), kept)

    assert got.issued.leaf != held.issued.leaf
