"""A CA to test with, certificates that no CA of ours would make, and OpenSSL as the referee."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshproxy.identity import Authority, Credentials, Issued, SpiffeId, certificates, keys, revocation, spiffe
from meshproxy.identity.keys import PrivateKey

NOW = datetime.now(UTC).replace(microsecond=0)
REVIEWS = spiffe.parse("spiffe://cluster.local/ns/default/sa/reviews")
RATINGS = spiffe.parse("spiffe://cluster.local/ns/default/sa/ratings")

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def credentials(authority: Authority, identity: SpiffeId = REVIEWS, now: datetime = NOW) -> Credentials:
    """What `ca issue` would write."""
    key = keys.generate()
    return Credentials(key, authority.issue(key.public_key(), identity, now))


def openssl(*arguments: str | Path, stdin: bytes = b"") -> str:
    """What OpenSSL says, on both of its outputs."""
    result = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False)
    return (result.stdout + result.stderr).decode()


def openssl_verify(
    folder: Path, issued: Issued, trusted: Issued | None = None, *, crls: bool = True, strict: bool = True
) -> str:
    """What OpenSSL says of a chain, by what `trusted` tells to trust; ends with `OK` when it is content."""
    trusted = trusted or issued
    names = {"chain": certificates.to_pem(issued.chain), "roots": certificates.to_pem(trusted.roots)}
    names["crls"] = revocation.to_pem(trusted.crls)
    for name, data in names.items():
        (folder / f"{name}.pem").write_bytes(data)
    chain, roots = folder / "chain.pem", folder / "roots.pem"
    check: list[str | Path] = ["-x509_strict"] if strict else []
    check += ["-crl_check_all", "-CRLfile", folder / "crls.pem"] if crls else []
    said = [
        openssl("verify", "-purpose", purpose, "-CAfile", roots, "-untrusted", chain, *check, chain)
        for purpose in ("sslserver", "sslclient")
    ]
    return "OK" if all(one.strip().endswith(": OK") for one in said) else "\n".join(said)


def authority_certificate(
    key: PrivateKey,
    *,
    issuer: x509.Certificate | None = None,
    issuer_key: PrivateKey | None = None,
    ca: bool = True,
    path_length: int | None = None,
    key_usage: bool = True,
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=365),
    name: str = "somebody's root",
) -> x509.Certificate:
    """An authority as others make them."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer_key or key).public_key()), critical=False
        )
    )
    if key_usage:
        builder = builder.add_extension(usage(key_cert_sign=True), critical=True)
    return builder.sign(issuer_key or key, hashes.SHA256())


def leaf_certificate(
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    names: Sequence[x509.GeneralName] = (x509.UniformResourceIdentifier(str(REVIEWS)),),
    *,
    key: PrivateKey | None = None,
    more: Iterable[tuple[x509.ExtensionType, bool]] = (),
    key_usage: x509.KeyUsage | None = None,
    usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    begins: datetime = NOW - timedelta(minutes=2),
    ends: datetime = NOW + timedelta(hours=1),
) -> x509.Certificate:
    """A workload's certificate, with whatever names, usages and further extensions."""
    public_key = (key or keys.generate()).public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(key_usage or usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(certificates.authority_key_identifier(issuer), critical=False)
    )
    for extension, critical in more:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    """A key usage of these bits."""
    return x509.KeyUsage(
        digital_signature, False, False, False, False, key_cert_sign, key_cert_sign, False, False
    )  # fmt: skip
