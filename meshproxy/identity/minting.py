"""An issuer of tokens for development and tests: one key, by which tokens are signed and its key set verifies them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt as pyjwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key: ECDSA on one of NIST's curves, or RSA."""

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @classmethod
    def generate(cls) -> SigningKey:
        """A new one, on P-256."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def read(cls, pem: bytes) -> SigningKey:
        """One from its PEM. Raises `ValueError`."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except TypeError:
            raise ValueError("it has a passphrase; a test issuer's key has none") from None
        if isinstance(key, rsa.RSAPrivateKey) or (
            isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES
        ):
            return cls(key)
        raise ValueError("it is neither RSA nor ECDSA on P-256, P-384 or P-521")

    @property
    def algorithm(self) -> str:
        """The signatures that it makes."""
        return "RS256" if isinstance(self.key, rsa.RSAPrivateKey) else _CURVES[self.key.curve.name]

    def pem(self) -> bytes:
        """The private key, in PKCS #8, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token."""
        return pyjwt.encode(dict(claims), self.key, self.algorithm, {"kid": self._jwk()["kid"]})

    def jwks(self) -> str:
        """The key set that verifies its tokens."""
        return json.dumps({"keys": [self._jwk()]})

    def _jwk(self) -> dict[str, Any]:
        """The public key, its id the thumbprint of RFC 7638."""
        key = self.key
        jwk = (
            RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            if isinstance(key, rsa.RSAPrivateKey)
            else ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        )
        public: dict[str, Any] = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
        digest = hashlib.sha256(json.dumps(public, sort_keys=True, separators=(",", ":")).encode()).digest()
        return {**public, "kid": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), "use": "sig"}
