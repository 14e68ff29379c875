"""Private keys: made, written and read; and which public keys are strong enough to be certified.

What TLS peers in a mesh speak: ECDSA on P-256 and P-384, and RSA. (Envoy's TLS library offers no Ed25519 unless told.)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from . import files
from .errors import Unusable

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
KeyType = Literal["ecdsa", "rsa"]
Passphrase = Callable[[Path], bytes]
"""Asked for the passphrase of a key that turns out to be encrypted. May raise `Unusable`."""

_RSA_BITS = 3072
_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 8192  # beyond, each signature to check takes milliseconds
_MIN_RSA_EXPONENT = 65537  # FIPS 186-5, section 5.1
_CURVES = (ec.SECP256R1, ec.SECP384R1)


def generate(key_type: KeyType = "ecdsa") -> PrivateKey:
    """A new key: ECDSA P-256, or RSA of 3072 bits, which is as strong."""
    if key_type == "rsa":
        return rsa.generate_private_key(_MIN_RSA_EXPONENT, _RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def type_of(key: PrivateKey) -> KeyType:
    """Which of the two it is."""
    return "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ecdsa"


def to_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """The key as PKCS#8, encrypted if there is a passphrase."""
    encryption = (
        serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def fits(key: PrivateKey, public_key: object) -> bool:
    """Whether the public key is this private key's."""
    return key.public_key() == public_key


def strong(key: object) -> PublicKey:
    """The public key, if it is one that may be certified. Raises `ValueError`, which says why not."""
    if isinstance(key, rsa.RSAPublicKey):
        if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
            raise ValueError(f"an RSA key of {key.key_size} bits; it must have {_MIN_RSA_BITS} to {_MAX_RSA_BITS}")
        exponent = key.public_numbers().e
        if exponent < _MIN_RSA_EXPONENT or exponent.bit_length() > 256:
            raise ValueError(f"an RSA key with an unusual exponent; use {_MIN_RSA_EXPONENT}")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise ValueError(f"an ECDSA key on the curve {key.curve.name}; it must be P-256 or P-384")
        return key
    raise ValueError("a key that is neither ECDSA nor RSA; use ECDSA P-256")


def read_key(path: Path, passphrase: Passphrase) -> tuple[PrivateKey, bytes | None]:
    """A private key, and the passphrase that it is encrypted with. Raises `Unusable`."""
    return _parsed(files.read(path), str(path), lambda: passphrase(path))


def parse_key(data: bytes, where: str) -> PrivateKey:
    """The private key of a PEM text, not encrypted. Raises `Unusable`; `where` says whose text it is."""

    def refuse() -> bytes:
        raise Unusable(f"cannot use the key {where}: it is encrypted; write it without a passphrase")

    return _parsed(data, where, refuse)[0]


def _parsed(data: bytes, where: str, passphrase: Callable[[], bytes]) -> tuple[PrivateKey, bytes | None]:
    secret = None
    try:
        try:
            key = serialization.load_pem_private_key(data, None)
        except TypeError:  # encrypted
            secret = passphrase()
            key = serialization.load_pem_private_key(data, secret)
    except (ValueError, UnsupportedAlgorithm):
        # Nothing of what the library says is passed on: it is not for people, and may tell of the key.
        if secret is not None:
            raise Unusable(
                f"cannot decrypt the key {where}: the passphrase is not the one it was written with"
            ) from None
        reason = "it is damaged, or of an unknown kind"
        if b"PRIVATE KEY-----" not in data:
            reason = "it is no private key in PEM, which begins with -----BEGIN PRIVATE KEY-----"
        raise Unusable(f"cannot use the key {where}: {reason}") from None
    try:
        strong(key.public_key())
    except ValueError as error:
        raise Unusable(f"cannot use the key {where}: it is {error}") from None
    assert isinstance(key, PrivateKey)
    return key, secret


def no_passphrase(path: Path) -> bytes:
    """A `Passphrase` where there is nobody to ask."""
    raise Unusable(f"the key {path} is encrypted, and no passphrase was given")
