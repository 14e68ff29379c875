"""Certificate signing requests (PKCS#10, RFC 2986).

Rule: of a request, the CA reads the public key and the one SPIFFE ID in its subject alternative name. Whatever else it
asks for, a subject, a lifetime, to be an authority, has no way into the certificate: that is built anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization

from . import spiffe
from .certificates import UNREADABLE
from .errors import Refused
from .keys import PrivateKey, PublicKey, strong
from .spiffe import SpiffeId

MAX_REQUEST = 16 * 1024
"""Bytes of PEM; one with an RSA key of 8192 bits has 3,000."""


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A request whose sender has proven to hold the key."""

    identity: SpiffeId
    public_key: PublicKey


def signing_request(key: PrivateKey, identity: SpiffeId) -> bytes:
    """A request in PEM."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def parse_request(pem: bytes) -> SigningRequest:
    """Read a request, and check that its sender holds the key. Raises `Refused`."""
    if len(pem) > MAX_REQUEST:
        raise Refused(413, f"the signing request has more than {MAX_REQUEST} bytes")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = _key(request)
        _check_signature(request)
        return SigningRequest(_identity(request), key)
    except UNREADABLE as error:
        raise Refused(400, f"the signing request cannot be used: {_in_words(error)}") from None


class _Wrong(ValueError):
    """Says in words for people what is wrong with a request."""


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, _Wrong) else "it is not PEM as `openssl req -new` writes it, or damaged"


def _key(request: x509.CertificateSigningRequest) -> PublicKey:
    public_key = request.public_key()
    try:
        return strong(public_key)
    except ValueError as error:
        raise _Wrong(f"it is for {error}") from None


def _check_signature(request: x509.CertificateSigningRequest) -> None:
    if not isinstance(request.signature_hash_algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        raise _Wrong("it must be signed with SHA-256, SHA-384 or SHA-512")
    try:
        valid = request.is_signature_valid
    except InvalidSignature:
        valid = False
    if not valid:
        raise _Wrong("its signature is not by the key that is in it")


def _identity(request: x509.CertificateSigningRequest) -> SpiffeId:
    try:
        names = list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise _Wrong("its subject alternative name must be one URI, the SPIFFE ID, and nothing else")
    try:
        return spiffe.parse(names[0].value)
    except ValueError as error:
        raise _Wrong(str(error)) from None
