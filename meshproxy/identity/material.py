"""Key material of others than the mesh's own CA: read from where a snapshot's secrets say it is, and looked at.

What is read is what will be used: that the files change meanwhile does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..snapshot import DataSource, FileSource, SystemRoots, TlsCertificate, TrustedCa
from . import files
from .errors import Unusable

if TYPE_CHECKING:
    from cryptography import x509

    from .keys import PrivateKey


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with those of its issuers, leaf first, and its key."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


@dataclass(frozen=True, slots=True)
class Authorities:
    """Whose certificates are believed, and what they have revoked. `system` is the machine's own authorities, too."""

    certificates: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    system: bool = False


def read_key_pair(source: TlsCertificate) -> KeyPair:
    """A certificate and its key. Raises `Unusable`: one cannot be read, or they do not fit."""
    from . import certificates, keys  # bring cryptography, for which those who have no secrets need not wait

    chain = certificates.parse_certificates(_read(source.certificate_chain), where(source.certificate_chain))
    key = keys.parse_key(_read(source.private_key), where(source.private_key))
    if not keys.fits(key, chain[0].public_key()):
        raise Unusable(
            f"the key {where(source.private_key)} does not fit the certificate {where(source.certificate_chain)}, "
            f"which is for {_subject(chain[0])}; give the key that the certificate was issued for"
        )
    return KeyPair(tuple(chain), key)


def read_authorities(source: TrustedCa, now: datetime) -> Authorities:
    """Authorities and their revocation lists. Raises `Unusable`, also when all of them have expired."""
    from . import certificates, revocation  # as above

    crls = [] if source.crl is None else revocation.parse_crls(_read(source.crl), where(source.crl))
    if isinstance(source.trusted_ca, SystemRoots):
        return Authorities((), tuple(crls), system=True)
    found = certificates.parse_certificates(_read(source.trusted_ca), where(source.trusted_ca))
    last = max(found, key=lambda one: one.not_valid_after_utc)
    if last.not_valid_after_utc < now:
        raise Unusable(
            f"cannot use {where(source.trusted_ca)}: the authority {_subject(last)} has expired on "
            f"{last.not_valid_after_utc:%Y-%m-%d}; nobody's certificate could be verified"
        )
    return Authorities(tuple(found), tuple(crls))


def expiry_problem(pair: KeyPair, now: datetime) -> str | None:
    """Why peers that look at the time will refuse a certificate; None when they have no such reason."""
    leaf = pair.leaf
    if leaf.not_valid_after_utc < now:
        return f"the certificate for {_subject(leaf)} has expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
    if now < leaf.not_valid_before_utc:
        return f"the certificate for {_subject(leaf)} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} on only"
    return None


def paths(source: TlsCertificate | TrustedCa) -> tuple[str, ...]:
    """The files that it is read from."""
    parts = (
        (source.certificate_chain, source.private_key)
        if isinstance(source, TlsCertificate)
        else (source.trusted_ca, source.crl)
    )
    return tuple(part.path for part in parts if isinstance(part, FileSource))


def where(source: DataSource) -> str:
    """What it is called in messages."""
    return source.path if isinstance(source, FileSource) else source.name


def _read(source: DataSource) -> bytes:
    return files.read(Path(source.path)) if isinstance(source, FileSource) else source.text.encode()


def _subject(certificate: x509.Certificate) -> str:
    """Whom it is for, as people would say."""
    from cryptography import x509

    from . import certificates

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        told = [str(one.value) for one in names]
    except (x509.ExtensionNotFound, *certificates.UNREADABLE):
        told = []
    return ", ".join(told[:3]) or certificate.subject.rfc4514_string() or "nobody"
