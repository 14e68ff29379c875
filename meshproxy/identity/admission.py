"""Who gets which certificate: the decision behind `ca serve`, without its network.

Rule: nobody names their own identity. The join token or the present certificate says who asks, and a signing request
for anybody else is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

from cryptography import x509

from .authority import Authority
from .credentials import Issued
from .errors import NotVerified, Refused
from .signing_requests import parse_request
from .spiffe import SpiffeId
from .verification import verify_peer


def admit(
    authority: Authority,
    request: bytes,
    *,
    token: str | None,
    certificate: x509.Certificate | None,
    now: datetime,
    lifetime: timedelta,
) -> tuple[SpiffeId, Issued]:
    """Sign a request in PEM for whom the token, or else the certificate of its TLS connection, admits.

    Raises:
        Refused: neither admits anybody, or the request is for somebody else, or cannot be used.
        IdentityError: the CA cannot sign.
    """
    if token is not None:
        by, admitted = "the join token", authority.tokens.identity(token, now)
    elif certificate is not None:
        by, admitted = "the present certificate", _holder(authority, certificate, now)
    else:
        raise Refused(401, "a first request needs a join token, a later one the present certificate by mutual TLS")
    wanted = parse_request(request)
    if wanted.identity != admitted:
        raise Refused(403, f"{by} is that of {admitted}, and the signing request asks for {wanted.identity}")
    authority.check_identity(admitted)
    if token is not None:
        authority.tokens.use(token)
    return admitted, authority.issue(wanted.public_key, admitted, now, lifetime)


def _holder(authority: Authority, certificate: x509.Certificate, now: datetime) -> SpiffeId:
    trusted = authority.trusted()
    try:
        return verify_peer(
            # TLS tells of the leaf alone; all that a leaf of ours can need besides is here.
            (certificate, *trusted.chain),
            roots=trusted.roots,
            crls=trusted.crls,
            now=now,
            trust_domains=(authority.trust_domain,),
        ).id
    except NotVerified as error:
        raise Refused(401, str(error)) from None


class Attempts:
    """Bounds how often somebody may be refused: `burst` times at once, and then once in `interval_s`.

    Whoever is not refused is not counted, so many workloads behind one address can join at once. Of those who are,
    the last `_REMEMBERED` are remembered: clients choose their addresses.
    """

    _REMEMBERED = 4096

    def __init__(self, burst: int = 10, interval_s: float = 6.0) -> None:
        self._burst = burst
        self._interval_s = interval_s
        self._spent_until: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, who: str, now: float) -> float:
        """How long they must wait for the next attempt; 0 when they need not."""
        spent = self._spent_until.get(who, now) - now
        return max(0.0, spent - (self._burst - 1) * self._interval_s)

    def refused(self, who: str, now: float) -> None:
        """Count one."""
        self._spent_until[who] = max(self._spent_until.pop(who, now), now) + self._interval_s
        if len(self._spent_until) > self._REMEMBERED:
            self._spent_until.popitem(last=False)
