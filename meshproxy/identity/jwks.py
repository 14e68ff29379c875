"""JSON Web Key Sets (RFC 7517), and the signatures that they verify.

Rule: a key says which algorithms it is for, never a token. An RSA key verifies RSA signatures and nothing else, so that
nobody can have its public half taken for the secret of an HMAC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt as pyjwt
from jwt.algorithms import Algorithm

from .jwt import Refusal, Token, TokenRefused, read_json

_RSA = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
_HMAC = frozenset(("HS256", "HS384", "HS512"))
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}


@dataclass(frozen=True, slots=True)
class Key:
    """A key for signatures by one of `algorithms`; `key_id` is empty if it has none."""

    key_id: str
    algorithms: frozenset[str]
    material: Any = field(repr=False)


class KeySet:
    """Keys, to be tried in their order."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys

    @classmethod
    def parse(cls, text: str) -> KeySet:
        """Read a JSON Web Key Set. Keys of no use here, such as those for encryption, are passed over.

        Raises:
            ValueError: it is none, or has no key that is of use; the message says which.
        """
        value = read_json(text.encode())
        keys = value.get("keys") if isinstance(value, dict) else None
        if not isinstance(keys, list):
            raise ValueError("not a set of JSON Web Keys: an object with a list of keys")
        usable = tuple(_usable(keys))
        if not usable:
            raise ValueError("no key in it verifies signatures that are known")
        return cls(usable)

    def __repr__(self) -> str:
        return f"<KeySet of {len(self._keys)}>"

    def verify(self, token: Token) -> None:
        """Raises `TokenRefused` unless one of the keys has signed the token.

        A key that has an id is for tokens that name it or none.
        """
        refusal = Refusal.NO_KEY if self._keys else Refusal.NO_KEYS
        for key in self._keys:
            if token.key_id and key.key_id and token.key_id != key.key_id:
                continue
            if token.algorithm in key.algorithms:
                if _algorithm(token.algorithm).verify(token.signed, key.material, token.signature):
                    return
                refusal = Refusal.SIGNATURE
        raise TokenRefused(refusal)


def _algorithm(name: str) -> Algorithm:
    return pyjwt.get_algorithm_by_name(name)


def _usable(keys: list[Any]) -> Iterator[Key]:
    for one in keys:
        if isinstance(one, dict) and one.get("use", "sig") == "sig" and (algorithms := _algorithms(one)):
            try:
                material = _algorithm(min(algorithms)).from_jwk(one)
            except (pyjwt.PyJWTError, ValueError, TypeError, KeyError):
                continue
            # Nobody who only verifies needs a private key; if one is given, its public half does.
            public = getattr(material, "public_key", None)
            key_id = one.get("kid")
            yield Key(key_id if isinstance(key_id, str) else "", algorithms, public() if public else material)


def _algorithms(key: Mapping[str, Any]) -> frozenset[str]:
    """What signatures a key is for: by its type, and among these by its `alg`, if it has one."""
    match key.get("kty"):
        case "RSA":
            of_type = _RSA
        case "oct":
            of_type = _HMAC
        case "EC" | "OKP":
            of_type = frozenset(filter(None, (_CURVES.get(str(key.get("crv"))),)))
        case _:
            of_type = frozenset()
    return of_type & {key["alg"]} if isinstance(key.get("alg"), str) else of_type
