"""Certificates to test with, made when they are asked for: of authorities, of servers and of clients."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KeyType = Literal["ecdsa", "rsa"]
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate with those of its issuers but the root, and its key, in PEM."""

    chain: str
    key: str

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.chain.encode())

    def write(self, folder: Path, name: str = "tls") -> tuple[Path, Path]:
        """As files; the chain's and the key's."""
        chain, key = folder / f"{name}.crt", folder / f"{name}.key"
        chain.write_text(self.chain)
        key.write_text(self.key)
        return chain, key


class Ca:
    """An authority. `pem` is its own certificate."""

    def __init__(self, name: str = "test root", issuer: Ca | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._revoked: list[int] = []
        builder = _builder(self._name, issuer._name if issuer else self._name, self._key.public_key(), NOW + 30 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        builder = builder.add_extension(_usage(signs=True), critical=True)
        own_key = self._key.public_key()
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(own_key), critical=False)
        if issuer is not None:
            above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer._key.public_key())
            builder = builder.add_extension(above, critical=False)
        self.certificate = builder.sign((issuer or self)._key, hashes.SHA256())
        self.pem = _pem(self.certificate)
        self._above: str = self.pem + issuer._above if issuer else ""

    def issue(
        self,
        *names: str,
        key: KeyType = "ecdsa",
        uses: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
        expires: datetime.datetime = NOW + 7 * DAY,
        common_name: str | None = None,
    ) -> Pair:
        """A certificate for DNS names, IP addresses and URIs."""
        made = ec.generate_private_key(ec.SECP256R1()) if key == "ecdsa" else rsa.generate_private_key(65537, 2048)
        subject = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        builder = _builder(x509.Name(subject), self._name, made.public_key(), expires)
        if names:
            general = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(general, critical=not subject)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(identifier, critical=False).sign(self._key, hashes.SHA256())
        return Pair(_pem(certificate) + self._above, key_pem(made))

    def revoke(self, pair: Pair) -> str:
        """Its list of all that it has revoked, now with this one."""
        self._revoked.append(pair.certificate.serial_number)
        return self.crl()

    def crl(self) -> str:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(NOW - DAY).next_update(NOW + 7 * DAY)
        for serial in self._revoked:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def client_context(self, pair: Pair | None = None, folder: Path | None = None) -> ssl.SSLContext:
        """A client's, which trusts this authority and shows the certificate of `pair`, written to `folder`."""
        context = ssl.create_default_context(cadata=self.pem)
        if pair is not None:
            assert folder is not None
            context.load_cert_chain(*pair.write(folder, "client"))
        return context


def key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    expires: datetime.datetime,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(min(NOW, expires) - DAY).not_valid_after(expires)


def _general_name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
