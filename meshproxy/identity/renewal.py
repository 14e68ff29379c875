"""When a certificate is renewed."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

_SPREAD = 0.1


def renewal_time(certificate: x509.Certificate, chance: float = 0.5) -> datetime:
    """Half of the certificate's life.

    `chance`, from 0 to 1, moves it by up to a tenth of that to either side: workloads that started together would go on
    to renew together.
    """
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins + (ends - begins) / 2 * (1 + _SPREAD * (2 * chance - 1))
