"""Tokens that attack: each is refused, and for a reason of its own."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from meshproxy.identity.jwks import KeySet
from meshproxy.identity.jwt import MAX_BYTES, Refusal, TokenRefused, parse, read_json
from meshproxy.identity.minting import SigningKey

NOW = 1_800_000_000
RSA = SigningKey(rsa.generate_private_key(public_exponent=65537, key_size=2048))
EC = SigningKey.generate()
SECRET = b"0123456789abcdef0123456789abcdef"
CLAIMS = {"iss": "me", "sub": "alice", "exp": NOW + 60}


def b64(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw(header: object, payload: object = CLAIMS, signature: bytes = b"x") -> bytes:
    return f"{b64(header)}.{b64(payload)}.{b64(signature)}".encode()


def public_pem(key: SigningKey) -> bytes:
    public = key.key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def hmac(secret: bytes, algorithm: str = "HS256", **header: Any) -> bytes:
    """A token signed by any secret: pyjwt itself refuses to take a public key for one."""
    head = b64({"alg": algorithm, **header})
    signed = f"{head}.{b64(CLAIMS)}".encode()
    signature = pyjwt.get_algorithm_by_name(algorithm).sign(signed, secret)
    return signed + b"." + b64(signature).encode()


def refused(token: bytes, keys: KeySet, now: float = NOW) -> Refusal:
    with pytest.raises(TokenRefused) as caught:
        found = parse(token)
        found.check_times(now)
        keys.verify(found)
    return caught.value.reason


KEYS = KeySet.parse(RSA.jwks())
KEY_ID = json.loads(RSA.jwks())["keys"][0]["kid"]
GOOD = RSA.sign(CLAIMS).encode()


def test_a_good_token_is_believed() -> None:
    token = parse(GOOD)
    token.check_times(NOW)
    KEYS.verify(token)
    assert (token.issuer, token.claims["sub"]) == ("me", "alice")


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param(raw({"alg": "none"}), Refusal.ALG_UNKNOWN, id="alg none"),
        pytest.param(raw({"alg": "None"}, CLAIMS, b""), Refusal.FORMAT, id="alg none without signature"),
        pytest.param(raw({"alg": "nOnE"}), Refusal.ALG_UNKNOWN, id="alg none in letters of both cases"),
        pytest.param(hmac(public_pem(RSA)), Refusal.NO_KEY, id="HMAC by the public key"),
        pytest.param(hmac(public_pem(RSA), kid=KEY_ID), Refusal.NO_KEY, id="HMAC by the public key, named"),
        pytest.param(hmac(RSA.jwks().encode(), kid=KEY_ID), Refusal.NO_KEY, id="HMAC by the key set"),
        pytest.param(hmac(b""), Refusal.NO_KEY, id="HMAC by nothing"),
        pytest.param(EC.sign(CLAIMS).encode(), Refusal.NO_KEY, id="another kind of key"),
        pytest.param(
            raw({"alg": "RS256", "jwk": json.loads(EC.jwks())["keys"][0]}), Refusal.SIGNATURE, id="a key in the token"
        ),
        pytest.param(
            raw({"alg": "RS256", "jku": "http://evil/keys"}), Refusal.SIGNATURE, id="the token says where keys are"
        ),
        pytest.param(raw({"alg": "RS256", "kid": "../../dev/null"}), Refusal.NO_KEY, id="kid is a path"),
        pytest.param(raw({"alg": "RS256", "kid": "' OR '1'='1"}), Refusal.NO_KEY, id="kid is SQL"),
        pytest.param(raw({"alg": "RS256", "kid": ["a"]}), Refusal.KID, id="kid is a list"),
        pytest.param(raw({"alg": "RS256", "crit": ["b64"], "b64": False}), Refusal.CRIT, id="crit, not understood"),
        pytest.param(raw({"alg": "RS256", "crit": []}), Refusal.CRIT, id="crit, empty"),
        pytest.param(RSA.sign({**CLAIMS, "exp": NOW - 61}).encode(), Refusal.EXPIRED, id="expired"),
        pytest.param(RSA.sign({**CLAIMS, "nbf": NOW + 61}).encode(), Refusal.NOT_YET, id="not yet valid"),
        pytest.param(RSA.sign({**CLAIMS, "iat": NOW + 61}).encode(), Refusal.NOT_YET, id="issued tomorrow"),
        pytest.param(raw({"alg": "RS256"}, {"exp": "never"}), Refusal.EXP, id="exp is a text"),
        pytest.param(raw({"alg": "RS256"}, {"exp": True}), Refusal.EXP, id="exp is true"),
        pytest.param(raw({"alg": "RS256"}, b'{"exp":1e999}'), Refusal.EXP_RANGE, id="exp is infinite"),
        pytest.param(raw({"alg": "RS256"}, b'{"exp":Infinity}'), Refusal.PAYLOAD_JSON, id="exp is Infinity"),
        pytest.param(GOOD[:-6] + b"AAAAAA", Refusal.SIGNATURE, id="another signature"),
        pytest.param(
            b".".join([GOOD.split(b".")[0], b64({**CLAIMS, "sub": "root"}).encode(), GOOD.split(b".")[2]]),
            Refusal.SIGNATURE,
            id="another payload",
        ),
        pytest.param(b"a" * (MAX_BYTES + 1) + b".b.c", Refusal.FORMAT, id="huge"),
        pytest.param(RSA.sign({**CLAIMS, "x": "y" * MAX_BYTES}).encode(), Refusal.FORMAT, id="huge, and signed"),
        pytest.param(
            raw({"alg": "RS256"}, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), Refusal.PAYLOAD_JSON, id="nested bomb"
        ),
        pytest.param(
            raw({"alg": "RS256"}, b'{"a":' + b'{"a":' * 150 + b"1" + b"}" * 151),
            Refusal.PAYLOAD_JSON,
            id="nested objects",
        ),
        pytest.param(raw({"alg": "RS256"}, b'{"a":' + b"9" * 5000 + b"}"), Refusal.PAYLOAD_JSON, id="number bomb"),
        pytest.param(
            raw({"alg": "RS256"}, b'{"sub":"alice","sub":"root"}'), Refusal.PAYLOAD_JSON, id="a claim stands twice"
        ),
        pytest.param(raw(b'{"alg":"RS256","alg":"none"}'), Refusal.HEADER_JSON, id="alg stands twice"),
        pytest.param(raw({"alg": "RS256"}, b"\xff\xfe{\0}\0"), Refusal.PAYLOAD_JSON, id="UTF-16"),
        pytest.param(raw({"alg": "RS256"}, [CLAIMS]), Refusal.PAYLOAD_JSON, id="claims in a list"),
        pytest.param(GOOD.replace(b".", b". ", 1), Refusal.PAYLOAD_BASE64, id="white space"),
        pytest.param(GOOD + b"\n", Refusal.SIGNATURE_BASE64, id="a line's end"),
        pytest.param(GOOD + b".", Refusal.FORMAT, id="three dots"),
        pytest.param(b"..", Refusal.FORMAT, id="only dots"),
        pytest.param(b"", Refusal.FORMAT, id="nothing"),
    ],
)
def test_such_a_token_is_refused(token: bytes, reason: Refusal) -> None:
    assert refused(token, KEYS) is reason


def test_clocks_may_differ_by_a_minute() -> None:
    for claims in ({"exp": NOW - 60}, {"nbf": NOW + 60}, {"iat": NOW + 60}):
        parse(RSA.sign(claims).encode()).check_times(NOW)


@pytest.mark.parametrize(
    "key",
    [
        *(SigningKey(ec.generate_private_key(curve())) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)),
        RSA,
    ],
    ids=lambda key: key.algorithm,
)
def test_each_kind_of_key_verifies_its_own_signatures_and_no_others(key: SigningKey) -> None:
    token = parse(key.sign(CLAIMS).encode())
    KeySet.parse(key.jwks()).verify(token)
    for other in (EC, RSA):
        if other is not key:
            assert refused(key.sign(CLAIMS).encode(), KeySet.parse(other.jwks())) is Refusal.NO_KEY


def test_hmac_and_edwards_keys_verify_too() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    keys = KeySet.parse(
        json.dumps(
            {
                "keys": [
                    {"kty": "oct", "k": b64(SECRET), "kid": "h"},
                    {"kty": "OKP", "crv": "Ed25519", "x": b64(public), "kid": "e"},
                ]
            }
        )
    )
    keys.verify(parse(hmac(SECRET, kid="h")))
    keys.verify(parse(pyjwt.encode(CLAIMS, private, "EdDSA", {"kid": "e"}).encode()))


def test_a_key_with_an_algorithm_is_for_that_alone() -> None:
    key = json.loads(RSA.jwks())["keys"][0]
    keys = KeySet.parse(json.dumps({"keys": [key | {"alg": "RS512"}]}))
    assert refused(GOOD, keys) is Refusal.NO_KEY


def test_keys_of_no_use_are_passed_over() -> None:
    key = json.loads(RSA.jwks())["keys"][0]
    others = [key | {"use": "enc"}, key | {"alg": "RSA-OAEP"}, {"kty": "new"}, {"kty": "RSA", "n": "!", "e": "AQAB"}, 1]
    KeySet.parse(json.dumps({"keys": [*others, key]})).verify(parse(GOOD))
    with pytest.raises(ValueError, match="no key in it"):
        KeySet.parse(json.dumps({"keys": others}))


def test_a_private_key_in_a_key_set_verifies_as_its_public_half_does() -> None:
    assert not isinstance(RSA.key, ec.EllipticCurvePrivateKey)
    jwk = pyjwt.algorithms.RSAAlgorithm.to_jwk(RSA.key, as_dict=True)
    KeySet.parse(json.dumps({"keys": [jwk]})).verify(parse(GOOD))


@pytest.mark.parametrize("text", ["[]", "{}", '{"keys": {}}', "nonsense", '{"keys": [], "keys": []}'])
def test_what_is_no_key_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        KeySet.parse(text)


def test_json_may_be_as_deep_as_envoy_reads_it() -> None:
    assert read_json(b"[" * 100 + b"]" * 100)
    with pytest.raises(ValueError):
        read_json(b"[" * 101 + b"]" * 101)


def test_no_repr_shows_a_token_or_a_key() -> None:
    token = parse(GOOD)
    assert GOOD.split(b".")[2].decode() not in repr(token)
    assert repr(token) == "<Token of 'me'>"
    assert repr(KEYS) == "<KeySet of 1>"
