"""When a workload renews, and what it does while its CA does not answer."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.identity import (
    Authority,
    Credentials,
    IdentityError,
    Issued,
    NotVerified,
    Refused,
    SpiffeId,
    keep_current,
    keys,
    local_ca,
    obtain,
    server_id,
)
from meshproxy.identity.client import Unreachable
from meshproxy.identity.renewal import renewal_time
from meshproxy.identity.signing_requests import parse_request

from .support import NOW, RATINGS, REVIEWS, authority_certificate, credentials

CERTIFICATE = authority_certificate(keys.generate(), begins=NOW, ends=NOW + timedelta(hours=24))


def clock() -> datetime:
    """The time of day by trio's clock, which began at `NOW`."""
    return NOW + timedelta(seconds=trio.current_time())


class Ca:
    """A CA that answers at once, after it has met with `failures`."""

    def __init__(
        self,
        authority: Authority,
        *failures: IdentityError,
        identity: SpiffeId = REVIEWS,
        lifetime: timedelta = timedelta(hours=24),
    ) -> None:
        self._lifetime = lifetime
        self._authority = authority
        self._failures = list(failures)
        self._identity = identity
        self.asked: list[float] = []
        self.held: list[Credentials | None] = []

    async def __call__(self, request: bytes, current: Credentials | None) -> Issued:
        self.asked.append(trio.current_time())
        self.held.append(current)
        if self._failures:
            raise self._failures.pop(0)
        return self._authority.issue(parse_request(request).public_key, self._identity, clock(), self._lifetime)


async def kept(ca: Ca, current: Credentials | None, until_s: float, chance: float = 0.5) -> list[Credentials]:
    """The credentials that a workload gets until then."""
    got: list[Credentials] = []
    with trio.move_on_after(until_s):
        await keep_current(ca, REVIEWS, current, got.append, clock=clock, chance=lambda: chance)
    return got


@given(st.floats(0, 1))
def test_it_is_time_at_half_of_a_life_a_little_earlier_or_later(chance: float) -> None:
    after = renewal_time(CERTIFICATE, chance) - NOW
    assert abs(after - timedelta(hours=12)) <= timedelta(hours=1.2, milliseconds=1)
    assert renewal_time(CERTIFICATE) - NOW == timedelta(hours=12)


async def test_credentials_come_at_once_and_again_at_each_half_of_their_life(
    authority: Authority, autojump_clock: trio.testing.MockClock
) -> None:
    ca = Ca(authority)
    got = await kept(ca, None, 65 * 3600)
    assert ca.held == [None, *got[:-1]]
    assert ca.asked[0] == 0
    assert all(abs(after - before - 43200) < 120 for before, after in zip(ca.asked, ca.asked[1:], strict=False))
    assert len(got) == 6


async def test_short_lives_are_halved_from_when_they_were_given(
    authority: Authority, autojump_clock: trio.testing.MockClock
) -> None:
    """Certificates begin before they were made, for clocks that are behind: that part of a life was never lived."""
    ca = Ca(authority, lifetime=timedelta(seconds=10))
    await kept(ca, None, 61)
    pauses = [after - before for before, after in zip(ca.asked, ca.asked[1:], strict=False)]
    # Certificates count whole seconds.
    assert len(pauses) == pytest.approx(12, abs=2)
    assert all(4 <= pause <= 6 for pause in pauses)


async def test_credentials_that_are_there_are_kept_until_it_is_time(
    authority: Authority, autojump_clock: trio.testing.MockClock
) -> None:
    ca = Ca(authority)
    held = credentials(authority)
    assert await kept(ca, held, 11 * 3600) == []
    assert len(await kept(ca, held, 2 * 3600)) == 1


async def test_a_ca_that_cannot_be_reached_is_asked_again_less_and_less_often(
    authority: Authority, autojump_clock: trio.testing.MockClock
) -> None:
    ca = Ca(authority, *[Unreachable("gone")] * 12)
    got = await kept(ca, None, 86400 / 4, chance=1.0)
    pauses = [after - before for before, after in zip(ca.asked, ca.asked[1:], strict=False)]
    assert pauses[:12] == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300])
    assert len(got) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_workload_that_is_refused_from_the_start_is_told(
    authority: Authority, autojump_clock: trio.testing.MockClock, status: int
) -> None:
    with pytest.raises(Refused):
        await kept(Ca(authority, Refused(status, "no")), None, 60)


@pytest.mark.parametrize("failure", [Refused(503, "later"), Refused(429, "later"), Unreachable("gone")])
async def test_what_may_pass_is_waited_for_from_the_start(
    authority: Authority, autojump_clock: trio.testing.MockClock, failure: IdentityError
) -> None:
    assert len(await kept(Ca(authority, failure), None, 60)) == 1


@pytest.mark.parametrize("failure", [Refused(401, "revoked"), NotVerified("other roots"), Unreachable("gone")])
async def test_whoever_has_credentials_goes_on_asking_whatever_the_answer(
    authority: Authority, autojump_clock: trio.testing.MockClock, failure: IdentityError
) -> None:
    ca = Ca(authority, *[failure] * 3)
    assert len(await kept(ca, credentials(authority), 14 * 3600)) == 1


@pytest.mark.parametrize("identity", [RATINGS])
async def test_a_certificate_for_somebody_else_is_not_taken(authority: Authority, identity: SpiffeId) -> None:
    with pytest.raises(NotVerified, match=f"the peer is {RATINGS}; expected is {REVIEWS}"):
        await obtain(Ca(authority, identity=identity), REVIEWS, None, clock)


async def test_a_certificate_for_another_key_is_not_taken(authority: Authority) -> None:
    async def confused(request: bytes, current: Credentials | None) -> Issued:
        return credentials(authority).issued

    with pytest.raises(NotVerified, match="for another key"):
        await obtain(confused, REVIEWS, None, clock)


async def test_a_ca_on_this_machine_needs_no_token(authority: Authority) -> None:
    got = await obtain(local_ca(authority, clock), REVIEWS, None, clock)
    assert keys.fits(got.key, got.issued.leaf.public_key())
    with pytest.raises(Refused):
        await obtain(local_ca(authority, clock), server_id("cluster.local"), None, clock)
