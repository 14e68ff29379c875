"""When a certificate is renewed."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

_SPREAD = 0.1


def renewal_time(certificate: x509.Certificate, chance: float = 0.5, obtained: datetime | None = None) -> datetime:
    """Half of the certificate's life, which began when it was `obtained`, if that is known: what it says itself is a
    little earlier, for clocks that are behind.

    `chance`, from 0 to 1, moves it by up to a tenth of that to either side: workloads that started together would go on
    to renew together.
    """
    begins, ends = obtained or certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins + (ends - begins) / 2 * (1 + _SPREAD * (2 * chance - 1))
