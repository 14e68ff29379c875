"""Revocation lists (RFC 5280, section 5): which certificates are refused before their time is over."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization

from . import certificates, files
from .errors import Unusable
from .keys import PrivateKey, PublicKey

_BEGIN = b"-----BEGIN X509 CRL-----"


def revocation_list(
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    revoked: Iterable[x509.RevokedCertificate],
    number: int,
    now: datetime,
) -> x509.CertificateRevocationList:
    """What an authority has revoked so far.

    Lists are written when something is revoked, not by the calendar; so each is good for as long as its issuer is, and
    the one with the highest number holds.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - certificates.CLOCK_SKEW)
        .next_update(issuer.not_valid_after_utc)
        .add_extension(certificates.authority_key_identifier(issuer), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for one in revoked:
        builder = builder.add_revoked_certificate(one)
    return builder.sign(issuer_key, hashes.SHA256())


def revoked_entry(serial: int, now: datetime) -> x509.RevokedCertificate:
    """The entry for one certificate."""
    return x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """The list's number, 0 if it has none."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def to_pem(crls: Iterable[x509.CertificateRevocationList]) -> bytes:
    """One after the other."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in crls)


def parse_crls(data: bytes, where: str) -> list[x509.CertificateRevocationList]:
    """Every list of a PEM text; there may be none. Raises `Unusable`; `where` says whose text it is."""
    try:
        found = [x509.load_pem_x509_crl(_BEGIN + rest) for rest in data.split(_BEGIN)[1:]]
        for one in found:
            _ = one.issuer, one.extensions  # what is wrong with these shows when they are first looked at
        return found
    except certificates.UNREADABLE:
        raise Unusable(f"cannot use {where}: a revocation list in it is damaged") from None


def read_crls(path: Path) -> list[x509.CertificateRevocationList]:
    """Every list of a PEM file. Raises `Unusable`."""
    return parse_crls(files.read(path), str(path))


def issued_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Whether this authority's key has signed the list."""
    key = issuer.public_key()
    if crl.issuer != issuer.subject or not isinstance(key, PublicKey):
        return False
    try:
        return crl.is_signature_valid(key)
    except (InvalidSignature, TypeError, *certificates.UNREADABLE):
        return False


def revocation_problem(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    crls: Iterable[x509.CertificateRevocationList],
    now: datetime,
) -> str | None:
    """Why the lists of its issuer refuse a certificate; None if they do not, or there are none of this issuer."""
    for crl in crls:
        if not issued_by(crl, issuer):
            continue
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            return f"the certificate {certificate.serial_number:x} has been revoked"
        end = crl.next_update_utc
        if end is not None and now > end:
            name = issuer.subject.rfc4514_string()
            return f"the revocation list of {name} has expired on {end:%Y-%m-%d}; get its next one"
    return None
