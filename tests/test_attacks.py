"""What somebody might try to get past a gateway's tokens and policies: none of it reaches the app as it was meant.

The attacks on TLS and on the CA stand with the tests of these.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshproxy.identity.minting import SigningKey
from meshproxy.snapshot import SocketAddress

from .mesh.support import GATEWAY, problems_of, service_entry, snapshot_of, virtual_service
from .proxy.support import Backend, Gateway, backend, gateway

RSA = SigningKey(rsa.generate_private_key(public_exponent=65537, key_size=2048))
EC = SigningKey.generate()
STRANGER = SigningKey(ec.generate_private_key(ec.SECP256R1()))
FAR = 4102444800
CLAIMS = {"iss": "me", "sub": "alice", "aud": "shop", "exp": FAR}


def keys() -> list[dict[str, Any]]:
    return [key for one in (RSA, EC) for key in json.loads(one.jwks())["keys"]]


MESH = f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: istio-system}}
spec:
  jwtRules:
  - issuer: me
    audiences: [shop]
    jwks: '{json.dumps({"keys": keys()})}'
    fromHeaders: [{{name: authorization, prefix: 'Bearer '}}]
    fromParams: [token]
    fromCookies: [session]
    outputClaimToHeaders: [{{header: x-user, claim: sub}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: users, namespace: istio-system}}
spec:
  rules:
  - from: [{{source: {{requestPrincipals: ['me/*']}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: no-admin, namespace: istio-system}}
spec:
  action: DENY
  rules:
  - to: [{{operation: {{paths: [/admin*]}}}}]
  - to: [{{operation: {{hosts: [inside.example]}}}}]
  - to: [{{operation: {{methods: [DELETE]}}}}]
  - when: [{{key: 'request.headers[x-debug]', values: ['*']}}]
  - when: [{{key: 'request.auth.claims[banned]', values: ['yes']}}]
"""


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Gateway, Backend]]:
    """A gateway with these policies, before an app."""
    async with backend() as app:
        assert isinstance(app.address, SocketAddress)
        routes = virtual_service("- route: [{destination: {host: app}}]", hosts="'*'")
        documents = (GATEWAY, service_entry("app", port=app.address.port), routes, MESH)
        assert problems_of(*documents) == []
        async with gateway(snapshot_of(*documents, publish={80: SocketAddress("127.0.0.1", 0)})) as proxy:
            proxy.worker.addresses["http"] = next(iter(proxy.worker.addresses.values()))
            yield proxy, app


def request(target: str, *lines: str, method: str = "GET", host: str = "shop.example") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"host: {host}", *lines, "", ""]).encode("latin-1")


def bearer(token: str, target: str = "/", *lines: str, **more: str) -> bytes:
    return request(target, f"authorization: Bearer {token}", *lines, **more)


def encoded(part: bytes | Mapping[str, Any]) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: Mapping[str, Any], claims: bytes | Mapping[str, Any] = CLAIMS, signature: bytes = b"x") -> str:
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}"


def signed_by_hmac(secret: bytes, header: Mapping[str, Any]) -> str:
    signed = f"{encoded(header)}.{encoded(CLAIMS)}"
    return f"{signed}.{encoded(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def public_pem(key: SigningKey) -> bytes:
    return key.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


GOOD = EC.sign(CLAIMS)
_HEADER, _PAYLOAD, _SIGNATURE = GOOD.split(".")
_TWO_ALGS = encoded(b'{"alg":"none","alg":"ES256"}')
_KID = keys()[0]["kid"]
_JWK_OF_STRANGER = json.loads(STRANGER.jwks())["keys"][0]

TOKENS = {
    "none at all": request("/"),
    "alg none": bearer(forged({"alg": "none"}, CLAIMS, b"")),
    "alg none, signed with something": bearer(forged({"alg": "none"})),
    "alg None in another case": bearer(forged({"alg": "nOnE"})),
    "no alg": bearer(forged({"typ": "JWT"})),
    "alg as a list": bearer(forged({"alg": ["ES256", "none"]})),
    "two algs": bearer(f"{_TWO_ALGS}.{_PAYLOAD}.{_SIGNATURE}"),
    "an RSA key taken for an HMAC secret, as PEM": bearer(
        signed_by_hmac(public_pem(RSA), {"alg": "HS256", "kid": _KID})
    ),
    "an RSA key taken for an HMAC secret, as JSON": bearer(
        signed_by_hmac(json.dumps(keys()[0]).encode(), {"alg": "HS256", "kid": _KID})
    ),
    "an empty HMAC secret": bearer(signed_by_hmac(b"", {"alg": "HS256"})),
    "an EC token for the RSA key": bearer(
        forged({"alg": "RS256", "kid": _KID}, CLAIMS, base64.urlsafe_b64decode(_SIGNATURE + "=="))
    ),
    "a key of its own, in the header": bearer(forged({"alg": "ES256", "jwk": _JWK_OF_STRANGER})),
    "a key of its own, by the kid of another": bearer(
        jwt.encode(CLAIMS, STRANGER.key, "ES256", {"kid": keys()[1]["kid"]})
    ),
    "a key to be fetched from where it says": bearer(forged({"alg": "ES256", "jku": "http://127.0.0.1:1/keys"})),
    "a kid that is a path": bearer(forged({"alg": "HS256", "kid": "../../../../dev/null"})),
    "a kid that is SQL": bearer(forged({"alg": "HS256", "kid": "x' UNION SELECT 'secret"})),
    "a kid that is a list": bearer(forged({"alg": "ES256", "kid": [_KID]})),
    "a signature of zeros": bearer(f"{_HEADER}.{_PAYLOAD}.{encoded(bytes(64))}"),
    "no signature": bearer(f"{_HEADER}.{_PAYLOAD}."),
    "a signature cut short": bearer(GOOD[:-10]),
    "a changed payload": bearer(f"{_HEADER}.{encoded({**CLAIMS, 'sub': 'root'})}.{_SIGNATURE}"),
    "a changed header": bearer(f"{encoded({'alg': 'ES256', 'kid': keys()[1]['kid'], 'x': 1})}.{_PAYLOAD}.{_SIGNATURE}"),
    "expired": bearer(EC.sign({**CLAIMS, "exp": 1_000_000_000})),
    "not valid yet": bearer(EC.sign({**CLAIMS, "nbf": FAR})),
    "of tomorrow": bearer(EC.sign({**CLAIMS, "iat": FAR})),
    "for another audience": bearer(EC.sign({**CLAIMS, "aud": "other"})),
    "for no audience": bearer(EC.sign({key: one for key, one in CLAIMS.items() if key != "aud"})),
    "of another issuer": bearer(EC.sign({**CLAIMS, "iss": "you"})),
    "of no issuer": bearer(EC.sign({key: one for key, one in CLAIMS.items() if key != "iss"})),
    "an expiry that is no number": bearer(EC.sign({**CLAIMS, "exp": "never"})),
    "an expiry beyond all numbers": bearer(EC.sign({**CLAIMS, "exp": 2**70})),
    "huge": bearer(EC.sign({**CLAIMS, "x": "y" * 20_000})),
    "nested deep": bearer(forged({"alg": "ES256"}, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")),
    "a number of many digits": bearer(forged({"alg": "ES256"}, b'{"exp":' + b"9" * 10_000 + b"}")),
    "claims that stand twice": bearer(forged({"alg": "ES256"}, b'{"iss":"me","sub":"a","sub":"root","aud":"shop"}')),
    "no JSON": bearer(forged({"alg": "ES256"}, b"\xff\xfe")),
    "white space in base64": bearer(f"{_HEADER} {_PAYLOAD}.{_SIGNATURE}"),
    "a good one and a bad one": request("/", f"authorization: Bearer {GOOD}", "authorization: Bearer bad"),
    "a good one and a bad one elsewhere": bearer(GOOD, "/?token=bad"),
    "a good cookie and a bad one of its name": request("/", f"cookie: session={GOOD}; session=bad"),
    "a preflight that wants more than it may": request(
        "/",
        "authorization: Bearer bad",
        "origin: https://evil.example",
        "access-control-request-method: GET",
        method="OPTIONS",
    ),
    "as other credentials": request("/", f"authorization: Basic {GOOD}"),
}


# Where no token is looked at, it is the policy that refuses; and so it is Envoy's status for another audience.
STATUS = dict.fromkeys(
    (
        "none at all",
        "a preflight that wants more than it may",
        "as other credentials",
        "for another audience",
        "for no audience",
    ),
    403,
)


@pytest.mark.parametrize("attack", TOKENS)
async def test_no_token_but_a_good_one_reaches_the_app(attack: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running() as (proxy, app):
        answer = await proxy.exchange(TOKENS[attack])
        await proxy.logged()
        assert (answer.status, app.connections) == (STATUS.get(attack, 401), [])
        assert not [token for token in (GOOD, _SIGNATURE) if token in f"{caplog.text}{proxy.log_lines}"]


PATHS = (
    *(
        "/admin",
        "/admin/x",
        "/admin?x",
        "//admin",
        "///admin/",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/%41dmin",
        "/ADMIN",
    ),
    *("/x/%2e%2e/admin", "/x/.%2e/admin", "/x/%2E%2E/admin", "/x/..;/admin", "/x/..;a=b/admin", "/x/..%2fadmin"),
    *(
        "/x/..%5cadmin",
        "/x\\..\\admin",
        "/\\admin",
        "/admin;a=b",
        "/;a/admin",
        "/%2fadmin",
        "/%2561dmin",
        "/%252561dmin",
    ),
    *(
        "/x/%252e%252e/admin",
        "http://shop.example/admin",
        "http://shop.example//admin",
        "/x/%2e%2e%2fadmin",
    ),
)


@pytest.mark.parametrize("path", PATHS)
async def test_no_spelling_of_a_path_reaches_what_is_denied(path: str) -> None:
    async with running() as (proxy, app):
        answer = await proxy.exchange(bearer(GOOD, path))
        # What is decoded thrice stays what it is: no server reads it so.
        if path != "/%252561dmin":
            assert answer.status in (400, 403, 404)
            assert app.connections == []


OTHERS = {
    "a host with a port": bearer(GOOD, host="inside.example:80"),
    "a host in another case": bearer(GOOD, host="INSIDE.example"),
    "a host with the root's dot": bearer(GOOD, host="inside.example."),
    "a host in an absolute target": bearer(GOOD, "http://inside.example/", host="shop.example"),
    "two hosts": request("/", f"authorization: Bearer {GOOD}", "host: inside.example"),
    "a method that is denied": bearer(GOOD, method="DELETE"),
    "a header that is denied": bearer(GOOD, "/", "X-Debug: 1"),
    "a header that is denied, folded": bearer(GOOD, "/", "x-a: b\r\n x-debug: 1"),
    "a claim that is denied": bearer(EC.sign({**CLAIMS, "banned": "yes"})),
    "a claim that is denied, in a list": bearer(EC.sign({**CLAIMS, "banned": ["no", "yes"]})),
    "a second request inside of the first": bearer(
        GOOD, "/", "content-length: 3", "transfer-encoding: chunked", method="POST"
    ),
}


@pytest.mark.parametrize("attack", OTHERS)
async def test_nothing_else_passes_what_denies_it(attack: str) -> None:
    async with running() as (proxy, app):
        answer = await proxy.exchange(OTHERS[attack])
        assert answer.status in (400, 403)
        assert app.connections == []


@pytest.mark.parametrize("name", ["x-user", "X-User", "x_user", "X_USER"])
async def test_nobody_says_by_a_header_who_they_are(name: str) -> None:
    async with running() as (proxy, app):
        assert (await proxy.exchange(bearer(GOOD, "/", f"{name}: root"))).status == 200
        [received] = app.received
        assert b"x-user: alice\r\n" in received
        assert b"root" not in received
        assert GOOD.encode() not in received


async def test_a_good_token_passes_wherever_it_may_stand() -> None:
    async with running() as (proxy, app):
        for good in (
            bearer(GOOD),
            bearer(RSA.sign(CLAIMS)),
            request(f"/?token={GOOD}"),
            request("/", f"cookie: session={GOOD}"),
        ):
            assert (await proxy.exchange(good)).status == 200
        assert len(app.connections) == 1
