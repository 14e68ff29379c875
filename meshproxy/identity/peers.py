"""The peers of a proxy: who is who, found out once for each certificate and not for each connection.

To verify a chain costs a signature for each of its certificates, on top of what OpenSSL has done. What was found out is
good for a while, as long as neither the roots nor the revocation lists change: then there are new `Peers`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from .certificates import UNREADABLE
from .errors import NotVerified
from .verification import MAX_CHAIN, Identity, verify_peer

_REMEMBERED = 1024
_GOOD_FOR = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Found:
    identity: Identity
    until: datetime


class Peers:
    """Verifies peers by roots and revocation lists, and remembers those that it has met last."""

    def __init__(
        self,
        *,
        roots: Sequence[x509.Certificate],
        crls: Sequence[x509.CertificateRevocationList],
        trust_domains: Collection[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._roots = roots
        self._crls = crls
        self._trust_domains = trust_domains
        self._clock = clock
        self._known: OrderedDict[bytes, _Found] = OrderedDict()

    def verify(self, chain: Sequence[bytes]) -> Identity:
        """The identity that a chain in DER proves, leaf first. Raises `NotVerified`."""
        now = self._clock()
        key = _key(chain)
        found = self._known.get(key)
        if found is None or now >= found.until:
            found = self._verified(chain, now)
            self._known[key] = found
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return found.identity

    def _verified(self, chain: Sequence[bytes], now: datetime) -> _Found:
        if len(chain) > MAX_CHAIN:
            raise NotVerified(f"the peer showed {len(chain)} certificates; {MAX_CHAIN} are the most")
        try:
            certificates = [x509.load_der_x509_certificate(one) for one in chain]
        except UNREADABLE as error:
            raise NotVerified("the peer showed a certificate that cannot be read") from error
        identity = verify_peer(
            certificates, roots=self._roots, crls=self._crls, now=now, trust_domains=self._trust_domains
        )
        until = min(now + _GOOD_FOR, identity.certificate.not_valid_after_utc)
        return _Found(identity, until)


def _key(chain: Sequence[bytes]) -> bytes:
    """The sum of all that was shown: a chain that proves something says nothing of another with the same leaf."""
    digest = hashlib.sha256()
    for certificate in chain:
        digest.update(len(certificate).to_bytes(4, "big"))
        digest.update(certificate)
    return digest.digest()
