"""Tells certificates in words: by whom, for whom, until when, and what is wrong with them."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from . import certificates, keys, revocation
from .authority import CHAIN as CA_CHAIN
from .authority import KEY as CA_KEY
from .authority import OLD_CHAIN, OLD_KEY, ROOT_KEY, ROOTS
from .credentials import CHAIN, CRLS, KEY
from .errors import Unusable
from .keys import Passphrase, PrivateKey

_KEYS = {CHAIN: KEY, CA_CHAIN: CA_KEY, OLD_CHAIN: OLD_KEY, ROOTS: ROOT_KEY}
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384"}
_SOON = 0.2
_SOON_AT_MOST = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class CertificateDescription:
    """One certificate; `kind` is workload, intermediate, root, or server, which is whatever has no SPIFFE ID."""

    kind: str
    name: str
    issuer: str
    not_before: datetime
    not_after: datetime
    serial: str
    key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Description:
    """The certificates of a file, what must be mended, and what should be known."""

    file: str
    certificates: tuple[CertificateDescription, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def describe_file(path: Path, now: datetime, passphrase: Passphrase, authority: Path | None = None) -> Description:
    """The certificates of a file, held against the key and the revocation lists beside it. Raises `Unusable`.

    Lists in the directory `authority` replace those of the same issuers: a workload's are as old as its certificate.
    """
    chain = certificates.read_certificates(path)
    newest = {crl.issuer: crl for crl in (*_lists(path.parent), *(_lists(authority) if authority else ()))}
    crls = list(newest.values())
    key_path = path.parent / _KEYS.get(path.name, f"{path.stem}.key")
    key, warnings = None, []
    if key_path.exists():
        if stat.S_IMODE(key_path.stat().st_mode) & 0o077:
            warnings.append(f"others may read the key {key_path}: chmod 600 {key_path}")
        try:
            key, _ = keys.read_key(key_path, passphrase)
        except Unusable as error:
            warnings.append(f"the key is not compared: {error}")
    problems, more = _findings(chain, key, key_path, crls, now)
    return Description(str(path), tuple(map(_describe, chain)), tuple(problems), (*warnings, *more))


def _lists(directory: Path) -> list[x509.CertificateRevocationList]:
    path = directory / CRLS
    return revocation.read_crls(path) if path.exists() else []


def in_words(description: Description, now: datetime) -> str:
    """The same for people; ends with a newline."""
    lines = [description.file]
    for one in description.certificates:
        lines += [
            f"  {one.name} ({one.kind})",
            f"    issued by  {one.issuer}",
            f"    valid      {one.not_before:%Y-%m-%d %H:%M} to {one.not_after:%Y-%m-%d %H:%M} UTC, "
            + _left(one.not_after - now),
            f"    key        {one.key}",
            f"    serial     {one.serial}",
            f"    SHA-256    {one.sha256}",
        ]
    lines += [f"  PROBLEM: {problem}" for problem in description.problems]
    lines += [f"  warning: {warning}" for warning in description.warnings]
    return "\n".join(lines) + "\n"


def _describe(certificate: x509.Certificate) -> CertificateDescription:
    subject = certificate.subject.rfc4514_string()
    kind = "root" if _self_issued(certificate) else "intermediate"
    name = subject
    if not certificates.is_authority(certificate):
        try:
            kind, name = "workload", str(certificates.spiffe_id(certificate))
        except ValueError:
            kind, name = "server", subject or "a certificate without a subject"
    return CertificateDescription(
        kind,
        name,
        "itself" if _self_issued(certificate) else certificate.issuer.rfc4514_string(),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        f"{certificate.serial_number:x}",
        _key_in_words(certificate),
        certificates.fingerprint(certificate),
    )


def _findings(
    chain: Sequence[x509.Certificate],
    key: PrivateKey | None,
    key_path: Path,
    crls: Iterable[x509.CertificateRevocationList],
    now: datetime,
) -> tuple[list[str], list[str]]:
    """Problems and warnings."""
    problems, warnings = [], []
    if key is not None and not keys.fits(key, chain[0].public_key()):
        problems.append(f"the key {key_path} does not fit: it belongs to another certificate")
    for one in chain:
        name = _describe(one).name
        end, life = one.not_valid_after_utc, one.not_valid_after_utc - one.not_valid_before_utc
        if now > end:
            problems.append(f"{name} has expired on {end:%Y-%m-%d %H:%M} UTC: {_cure(one)}")
        elif now < one.not_valid_before_utc:
            problems.append(
                f"{name} is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: compare the clocks"
            )
        elif end - now < min(life * _SOON, _SOON_AT_MOST):
            warnings.append(f"{name} expires soon: {_cure(one)}")
    for one, issuer in pairwise(chain):
        if _self_issued(one):
            continue  # the roots of a bundle stand beside each other
        if not _issued(one, issuer):
            problems.append(
                f"{_describe(one).name} is not issued by the certificate behind it: a chain is in that order"
            )
        problem = revocation.revocation_problem(one, issuer, crls, now)
        if problem is not None:
            problems.append(problem)
    if not certificates.is_authority(chain[0]):
        try:
            certificates.spiffe_id(chain[0])
        except ValueError as error:
            warnings.append(f"it is no SPIFFE certificate, and proves nothing to a sidecar: {error}")
    return problems, warnings


def _cure(certificate: x509.Certificate) -> str:
    if not certificates.is_authority(certificate):
        return "get a new one with `meshproxy ca issue`"
    return f"bring in a new one with `meshproxy ca rotate{' --root' if _self_issued(certificate) else ''}`"


def _left(time: timedelta) -> str:
    if time < timedelta(0):
        return "expired"
    hours = int(time.total_seconds() // 3600)
    if hours >= 48:
        return f"{hours // 24} days left"
    return f"{hours} hours left" if hours >= 2 else f"{int(time.total_seconds() // 60)} minutes left"


def _key_in_words(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA, {_CURVES.get(key.curve.name, key.curve.name)}"
    return type(key).__name__.removesuffix("PublicKey")


def _self_issued(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject and certificates.is_authority(certificate)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        return True
    except (ValueError, TypeError, InvalidSignature):
        return False
