"""An authority and a server's certificate, made for one benchmark."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFETIME = timedelta(days=1)


def certified(folder: Path) -> Path:
    """Write a certificate for this machine as `origin.crt`, and its key as `origin.key`; returns its authority's."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("benchmark", root_key, "benchmark", root_key, ca=True)
    leaf = _certificate("origin", key, "benchmark", root_key, ca=False)
    roots = folder / "roots.pem"
    roots.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (folder / "origin.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "origin.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    return roots


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    subject, signer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(signer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _LIFETIME).not_valid_after(now + _LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if not ca:
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
