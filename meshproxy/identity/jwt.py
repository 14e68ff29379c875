"""A JSON Web Token taken apart: its header, its claims, what was signed, and the words in which one is refused.

Nothing here verifies a signature; `jwks` does. What a token is, RFC 7515 (section 7.1) and RFC 7519 say. The words are
Envoy's, which are what a client gets to read; and so is what makes a token ill-formed, only that names that stand twice
in one object are refused too, and extensions that have to be understood (`crit`).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

MAX_BYTES = 16 * 1024
"""The longest token that is looked at."""

MAX_DEPTH = 100
"""How deep JSON may be nested, as in Envoy."""

LEEWAY_S = 60
"""How far clocks may differ, in seconds: Envoy's default."""

ALGORITHMS = frozenset(
    (
        "ES256",
        "ES384",
        "ES512",
        "EdDSA",
        "HS256",
        "HS384",
        "HS512",
        "PS256",
        "PS384",
        "PS512",
        "RS256",
        "RS384",
        "RS512",
    )
)
"""The signatures that are known (RFC 7518, section 3.1; RFC 8037). `none` is none of them."""


class Refusal(StrEnum):
    """Why a token is refused: the body of the response."""

    FORMAT = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
    HEADER_BASE64 = "Jwt header is an invalid Base64url encoded"
    HEADER_JSON = "Jwt header is an invalid JSON"
    ALG_MISSING = "Jwt header [alg] field is required and must be a string"
    ALG_UNKNOWN = "Jwt header [alg] is not supported"
    KID = "Jwt header [kid] field is not a string"
    CRIT = "Jwt header [crit] asks for what is not supported"
    PAYLOAD_BASE64 = "Jwt payload is an invalid Base64url encoded"
    PAYLOAD_JSON = "Jwt payload is an invalid JSON"
    ISS = "Jwt payload [iss] field is not a string"
    SUB = "Jwt payload [sub] field is not a string"
    IAT = "Jwt payload [iat] field is not an integer"
    IAT_RANGE = "Jwt payload [iat] field is not a positive 64 bit integer"
    NBF = "Jwt payload [nbf] field is not an integer"
    NBF_RANGE = "Jwt payload [nbf] field is not a positive 64 bit integer"
    EXP = "Jwt payload [exp] field is not an integer"
    EXP_RANGE = "Jwt payload [exp] field is not a positive 64 bit integer"
    JTI = "Jwt payload [jti] field is not a string"
    AUD = "Jwt payload [aud] field is not a string or string list"
    SIGNATURE_BASE64 = "Jwt signature is an invalid Base64url encoded"
    ISSUER = "Jwt issuer is not configured"
    NOT_YET = "Jwt not yet valid"
    EXPIRED = "Jwt is expired"
    AUDIENCE = "Audiences in Jwt are not allowed"
    NO_KEYS = "Jwks doesn't have any valid public key"
    NO_KEY = "Jwks doesn't have key to match kid or alg from Jwt"
    FETCH = "Jwks remote fetch is failed"
    SIGNATURE = "Jwt verification fails"


class TokenRefused(Exception):
    """A token that is not to be believed."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Token:
    """A well-formed token; nobody has verified it. `payload` is as it stands in the token. Times are seconds since the
    epoch, 0 where the token does not say."""

    algorithm: str
    key_id: str
    claims: Mapping[str, Any]
    payload: bytes
    signed: bytes
    signature: bytes
    issuer: str
    audiences: tuple[str, ...]
    issued_at: int
    not_before: int
    expires: int

    def __repr__(self) -> str:
        return f"<Token of {self.issuer!r}>"  # never the token itself: logs quote this

    def check_times(self, now: float) -> None:
        """Raises `TokenRefused` unless the token is valid at `now`, in seconds since the epoch."""
        if now + LEEWAY_S < max(self.not_before, self.issued_at):
            raise TokenRefused(Refusal.NOT_YET)
        if self.expires and now > self.expires + LEEWAY_S:
            raise TokenRefused(Refusal.EXPIRED)


def parse(text: bytes) -> Token:
    """Take a token apart. Raises `TokenRefused`."""
    parts = text.split(b".")
    if len(parts) != 3 or not all(parts) or len(text) > MAX_BYTES:
        raise TokenRefused(Refusal.FORMAT)
    header_part, payload, signature_part = parts
    header = _object(header_part, Refusal.HEADER_BASE64, Refusal.HEADER_JSON)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise TokenRefused(Refusal.ALG_MISSING)
    if algorithm not in ALGORITHMS:
        raise TokenRefused(Refusal.ALG_UNKNOWN)
    key_id = _text(header, "kid", Refusal.KID)
    if "crit" in header:  # RFC 7515, section 4.1.11: whoever does not understand what it names must not believe it
        raise TokenRefused(Refusal.CRIT)
    claims = _object(payload, Refusal.PAYLOAD_BASE64, Refusal.PAYLOAD_JSON)
    issuer = _text(claims, "iss", Refusal.ISS)
    _text(claims, "sub", Refusal.SUB)
    issued_at = _time(claims, "iat", Refusal.IAT, Refusal.IAT_RANGE)
    not_before = _time(claims, "nbf", Refusal.NBF, Refusal.NBF_RANGE)
    expires = _time(claims, "exp", Refusal.EXP, Refusal.EXP_RANGE)
    _text(claims, "jti", Refusal.JTI)
    return Token(
        algorithm,
        key_id,
        claims,
        payload,
        text[: len(header_part) + 1 + len(payload)],
        _decoded(signature_part, Refusal.SIGNATURE_BASE64),
        issuer,
        _audiences(claims),
        issued_at,
        not_before,
        expires,
    )


_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*+={0,2}")


def _decoded(part: bytes, refusal: Refusal) -> bytes:
    """RFC 7515, section 2: base64url, whose padding may be left out. Python's decoder would pass over other bytes."""
    bare = part.rstrip(b"=")
    if _BASE64URL.fullmatch(part) is None or len(bare) % 4 == 1:
        raise TokenRefused(refusal)
    return base64.urlsafe_b64decode(bare + b"=" * (-len(bare) % 4))


def _object(part: bytes, not_base64: Refusal, not_json: Refusal) -> dict[str, Any]:
    try:
        value = read_json(_decoded(part, not_base64))
    except ValueError:
        raise TokenRefused(not_json) from None
    if not isinstance(value, dict):
        raise TokenRefused(not_json)
    return value


def read_json(text: bytes) -> Any:
    """What a JSON text of strangers says. Raises `ValueError`, also if a name stands twice, or if it is very deep."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ValueError("nested too deep")


def _text(claims: Mapping[str, Any], name: str, refusal: Refusal) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str):
        raise TokenRefused(refusal)
    return value


def _time(claims: Mapping[str, Any], name: str, no_number: Refusal, no_time: Refusal) -> int:
    value = claims.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused(no_number)
    if not 0 <= value < 2**63:
        raise TokenRefused(no_time)
    return int(value)


def _audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims.get("aud", [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise TokenRefused(Refusal.AUD)
    return tuple(values)
