"""Certificates, made and read: pure functions of keys, names and times.

What a workload's certificate holds is what SPIFFE asks of an X.509-SVID
(https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md) and what Istio's CA writes: one URI name, no
subject, for servers and clients. Signing certificates carry the trust domain's own ID, from which a CA learns it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import files, spiffe
from .errors import Unusable
from .keys import PrivateKey, PublicKey
from .spiffe import SpiffeId

ROOT_LIFETIME = timedelta(days=3650)
INTERMEDIATE_LIFETIME = timedelta(days=730)
WORKLOAD_LIFETIME = timedelta(hours=24)
CLOCK_SKEW = timedelta(minutes=2)
"""How far a certificate's beginning lies in the past, for peers whose clocks are behind."""

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for what others have written, and it cannot read."""

Name = str | IPv4Address | IPv6Address
"""A name besides the SPIFFE ID, by which a program that knows no SPIFFE finds a server: of DNS, or an IP address."""


def root_certificate(key: PrivateKey, trust_domain: str, now: datetime) -> x509.Certificate:
    """A root, signed by itself."""
    name = _authority_name("root", trust_domain)
    return _authority(name, key.public_key(), None, key, trust_domain, now, now + ROOT_LIFETIME, None)


def intermediate_certificate(
    key: PublicKey, root: x509.Certificate, root_key: PrivateKey, trust_domain: str, now: datetime
) -> x509.Certificate:
    """A certificate that signs workloads' certificates, and no further authority's; it does not outlive its root."""
    name = _authority_name("intermediate", trust_domain)
    end = min(now + INTERMEDIATE_LIFETIME, root.not_valid_after_utc)
    return _authority(name, key, root, root_key, trust_domain, now, end, 0)


def cross_certificate(
    new: x509.Certificate, old: x509.Certificate, old_key: PrivateKey, trust_domain: str, now: datetime
) -> x509.Certificate:
    """A new root, as signed by the old one: who trusts the old one alone gets by this to trust the new."""
    key = new.public_key()
    assert isinstance(key, PublicKey)
    end = min(new.not_valid_after_utc, old.not_valid_after_utc)
    return _authority(new.subject, key, old, old_key, trust_domain, now, end, 1)


def workload_certificate(
    key: PublicKey,
    identity: SpiffeId,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    now: datetime,
    lifetime: timedelta = WORKLOAD_LIFETIME,
    names: Iterable[Name] = (),
) -> x509.Certificate:
    """A certificate for a workload, or a server of ours with further `names`; it does not outlive its issuer."""
    alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity))]
    alternatives += [x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names]
    builder = _begun(x509.Name([]), issuer.subject, key, now, min(now + lifetime, issuer.not_valid_after_utc))
    # Critical, because there is no subject (RFC 5280, section 4.2.1.6).
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    # RSA keys encipher where TLS 1.2 is spoken without Diffie-Hellman, which nobody should: one bit will do.
    builder = builder.add_extension(_key_usage(digital_signature=True), critical=True)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(authority_key_identifier(issuer), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _authority_name(kind: str, trust_domain: str) -> x509.Name:
    # RFC 5280 gives a common name 64 characters; what identifies is the SPIFFE ID.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64]),
            # OpenSSL tells issuers by their names: two roots in an overlap must not have the same one.
            x509.NameAttribute(NameOID.COMMON_NAME, f"meshproxy {kind} {secrets.token_hex(4)}"),
        ]
    )


def _authority(
    name: x509.Name,
    key: PublicKey,
    issuer: x509.Certificate | None,
    issuer_key: PrivateKey,
    trust_domain: str,
    now: datetime,
    end: datetime,
    path_length: int | None,
) -> x509.Certificate:
    """An authority's certificate, signed by itself if there is no issuer."""
    builder = _begun(name, name if issuer is None else issuer.subject, key, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    builder = builder.add_extension(_key_usage(signs=True), critical=True)
    own_id = x509.UniformResourceIdentifier(str(SpiffeId(trust_domain)))
    builder = builder.add_extension(x509.SubjectAlternativeName([own_id]), critical=False)
    identifier = _of_key(key) if issuer is None else authority_key_identifier(issuer)
    builder = builder.add_extension(identifier, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _begun(name: x509.Name, issuer: x509.Name, key: PublicKey, now: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, digital_signature: bool = False, signs: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """What points from a certificate or a revocation list to its issuer's key."""
    try:
        # The issuer's own word for its key: a root that somebody brought may have one made by another rule, or none.
        digest = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        return x509.AuthorityKeyIdentifier(digest, None, None)
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        assert isinstance(key, PublicKey)
        return _of_key(key)


def _of_key(key: PublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def to_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """One after the other."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def parse_certificates(data: bytes, where: str) -> list[x509.Certificate]:
    """Every certificate of a PEM text, at least one. Raises `Unusable`; `where` says whose text it is."""
    try:
        found = x509.load_pem_x509_certificates(data)
        for one in found:
            _ = one.subject, one.issuer, one.extensions  # what is wrong with these shows when they are first looked at
        return found
    except UNREADABLE:
        reason = "a certificate in it is damaged"
        if b"BEGIN CERTIFICATE" not in data:
            reason = "it holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----"
        raise Unusable(f"cannot use {where}: {reason}") from None


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Every certificate of a PEM file, at least one. Raises `Unusable`."""
    return parse_certificates(files.read(path), str(path))


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, as OpenSSL writes it and as Istio's `verifyCertificateHash` reads it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def spiffe_id(certificate: x509.Certificate) -> SpiffeId:
    """The one SPIFFE ID that a certificate carries (X509-SVID, section 2). Raises `ValueError`."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("it has no subject alternative name, where a SPIFFE ID stands") from None
    except UNREADABLE:
        raise ValueError("its extensions cannot be read") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ValueError(f"it has {len(uris) or 'no'} URI names; a SPIFFE certificate has one")
    return spiffe.parse(uris[0])


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others (X509-SVID, section 4: the difference between signing and leaf certificates)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
