"""Tokens at a listener: believed, refused, remembered; and issuers, who are asked no more than needed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from meshproxy.identity import jwt
from meshproxy.identity.issuers import UNKNOWN_KEY_PAUSE_S, FetchedKeys, Issuers
from meshproxy.identity.jwt import LEEWAY_S
from meshproxy.identity.minting import SigningKey
from meshproxy.proxy.filters import jwt_authn as filter_module
from meshproxy.proxy.filters.jwt_authn import jwt_authn
from meshproxy.proxy.http.failures import Failure
from meshproxy.proxy.http.message import Headers, Request, Response, Service
from meshproxy.snapshot import ClaimToHeader, JwtAuthentication, JwtHeader, JwtProvider, LocalJwks, RemoteJwks

from .made import Backend, made_request

NOW = 1_800_000_000.0
KEY, OTHER = SigningKey.generate(), SigningKey.generate()
CLAIMS = {"iss": "me", "sub": "alice", "exp": int(NOW) + 600}
TOKEN = KEY.sign(CLAIMS)


async def _refuse(request: Request, failure: Failure) -> Response:
    return failure.respond(request)


def provider(name: str = "p", issuer: str = "me", key: SigningKey = KEY, **more: Any) -> JwtProvider:
    return JwtProvider(name, issuer, LocalJwks(key.jwks()), **more)


class Gate:
    """A filter before a backend, with a clock that a test turns."""

    def __init__(self, *providers: JwtProvider, issuers: Issuers | None = None) -> None:
        self.backend = Backend()
        self.now = NOW
        keys = (issuers or Issuers()).keys
        config = JwtAuthentication(providers or (provider(),))
        self.service: Service = jwt_authn(config, keys, lambda: self.now, _refuse, self.backend)

    async def get(self, token: str | None = TOKEN, path: bytes = b"/", headers: Headers | None = None) -> Response:
        fields = list(headers or [])
        if token is not None:
            fields.append((b"authorization", f"Bearer {token}".encode()))
        self.request = made_request(path, headers=fields)
        return await self.service(self.request)


async def test_a_request_without_a_token_passes_and_is_nobodys() -> None:
    gate = Gate()
    assert (await gate.get(None)).status == 200
    assert gate.request.claims is None


async def test_a_good_token_is_told_of_and_not_forwarded() -> None:
    gate = Gate()
    assert (await gate.get()).status == 200
    assert gate.request.claims == CLAIMS
    assert gate.backend.request.headers == []


async def test_a_bad_token_is_refused_as_envoy_refuses_it() -> None:
    gate = Gate()
    response = await gate.get(OTHER.sign(CLAIMS), b"/a?b")
    assert (response.status, response.body) == (401, b"Jwks doesn't have key to match kid or alg from Jwt")
    assert (b"www-authenticate", b'Bearer realm="http://h.example/a?b", error="invalid_token"') in response.headers
    assert gate.request.details == "jwt_authn_access_denied{Jwks_doesn't_have_key_to_match_kid_or_alg_from_Jwt}"
    assert gate.backend.requests == []


async def test_a_token_for_others_is_forbidden() -> None:
    gate = Gate(provider(audiences=("us",)))
    assert (await gate.get(KEY.sign({**CLAIMS, "aud": "them"}))).status == 403
    assert (await gate.get(KEY.sign({**CLAIMS, "aud": ["them", "us"]}))).status == 200


async def test_a_token_is_verified_once_and_remembered_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    parse = jwt.parse

    def counted(text: bytes) -> Any:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(filter_module, "parse", counted)
    gate = Gate()
    for _ in range(3):
        assert (await gate.get()).status == 200
    assert len(parsed) == 1

    gate.now = CLAIMS["exp"] + LEEWAY_S  # type: ignore[operator]
    assert (await gate.get()).status == 200
    gate.now += 1
    assert (await gate.get()).status == 401


async def test_not_more_tokens_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_module, "_REMEMBERED_TOKENS", 2)
    gate = Gate()
    for n in range(5):
        assert (await gate.get(KEY.sign({**CLAIMS, "n": n}))).status == 200
    assert (await gate.get(KEY.sign({**CLAIMS, "n": 0}))).status == 200


async def test_what_a_token_says_goes_into_headers_and_nobody_else_writes_them() -> None:
    gate = Gate(
        provider(
            forward=True,
            forward_payload_header="x-payload",
            claim_to_headers=(
                ClaimToHeader("x-sub", "sub"),
                ClaimToHeader("x-team", "o.team"),
                ClaimToHeader("x-no", "no"),
            ),
        )
    )
    smuggled: Headers = [
        (b"x-sub", b"root"),
        (b"x-team", b"root"),
        (b"x-no", b"root"),
        (b"x-payload", b"root"),
        (b"x", b"y"),
    ]
    token = KEY.sign({**CLAIMS, "o": {"team": "blue"}})
    await gate.get(token, headers=smuggled)
    assert gate.request.headers == [
        (b"x", b"y"),
        (b"authorization", f"Bearer {token}".encode()),
        (b"x-payload", token.split(".")[1].encode()),
        (b"x-sub", b"alice"),
        (b"x-team", b"blue"),
    ]
    await gate.get(None, headers=smuggled)
    assert gate.request.headers == [(b"x", b"y")]


async def test_no_preflight_smuggles_a_claims_header() -> None:
    gate = Gate(provider(claim_to_headers=(ClaimToHeader("x-sub", "sub"),)))
    preflight: Headers = [(b"origin", b"o"), (b"access-control-request-method", b"PUT"), (b"x-sub", b"root")]
    request = made_request(method=b"OPTIONS", headers=[*preflight, (b"authorization", b"Bearer bad")])
    assert (await gate.service(request)).status == 200
    assert (b"x-sub", b"root") not in request.headers


@pytest.mark.parametrize("claim", ["a\r\nx-admin: 1", "a\nb", "a\0b", "a\x7fb"])
async def test_a_claim_ends_no_line(claim: str) -> None:
    gate = Gate(provider(claim_to_headers=(ClaimToHeader("x-sub", "sub"),)))
    assert (await gate.get(KEY.sign({**CLAIMS, "sub": claim}))).status == 200
    assert gate.request.headers == []


async def test_a_second_token_has_to_be_good_too() -> None:
    gate = Gate()
    assert (await gate.get(TOKEN, f"/?access_token={TOKEN}".encode())).status == 200
    assert (await gate.get(TOKEN, b"/?access_token=bad")).status == 401
    assert (await gate.get("bad", f"/?access_token={TOKEN}".encode())).status == 401
    assert (await gate.get(TOKEN, headers=[(b"authorization", b"Bearer bad")])).status == 401


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/?access_token={TOKEN}&access_token=bad", []),
        (f"/?access_token=bad&access_token={TOKEN}", []),
        (f"/?access%5Ftoken=bad&access_token={TOKEN}", []),
        ("/", [(b"cookie", f"c={TOKEN}; c=bad".encode())]),
        ("/", [(b"cookie", f"c={TOKEN}".encode()), (b"cookie", b"c=bad")]),
        ("/", [(b"authorization", f"Bearer {TOKEN}".encode()), (b"authorization", b"Bearer bad")]),
    ],
)
async def test_a_place_that_is_filled_twice_has_to_be_good_twice(path: str, headers: Headers) -> None:
    gate = Gate(provider(from_cookies=("c",), forward=True))
    assert (await gate.get(None, path.encode(), headers)).status == 401
    assert gate.backend.requests == []


async def test_no_spelling_that_an_app_takes_for_a_claims_header_passes() -> None:
    gate = Gate(provider(claim_to_headers=(ClaimToHeader("x-user-name", "sub"),), forward_payload_header="x-payload"))
    smuggled = [(name, b"root") for name in (b"x_user_name", b"x-user_name", b"x_user-name", b"x_payload", b"x_other")]
    await gate.get(headers=smuggled)
    assert gate.request.headers == [
        (b"x_other", b"root"),
        (b"x-payload", TOKEN.split(".")[1].encode()),
        (b"x-user-name", b"alice"),
    ]
    await gate.get(None, headers=smuggled)
    assert gate.request.headers == [(b"x_other", b"root")]


async def test_a_claim_that_is_no_number_for_others_is_no_header() -> None:
    gate = Gate(provider(claim_to_headers=(ClaimToHeader("x-n", "n"),)))
    assert (await gate.get(KEY.sign({**CLAIMS, "n": 10**400}))).status == 200
    assert gate.request.headers == []


async def test_each_issuer_is_asked_where_its_tokens_stand() -> None:
    first = provider("a", "one", from_headers=(JwtHeader("x-a"),), from_params=())
    second = provider("b", "two", OTHER, from_headers=(JwtHeader("x-b"),), from_params=("t",), from_cookies=("c",))
    gate = Gate(first, second)
    one, two = KEY.sign({"iss": "one", "sub": "x"}), OTHER.sign({"iss": "two", "sub": "y"})

    async def status(path: bytes = b"/", **headers: str) -> int:
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return (await gate.get(None, path, fields)).status

    assert await status(x_a=one) == 200
    assert await status(x_b=two) == 200
    assert await status(cookie=f"d=1; c={two}") == 200
    assert await status(f"/?t={two}".encode()) == 200
    assert await status(x_a=two) == 401
    assert await status(x_b=one) == 401
    assert await status(x_a=one, x_b="bad") == 401


async def test_no_log_shows_a_token_of_the_query() -> None:
    gate = Gate()
    await gate.get(None, f"/a?x=1&access_token={TOKEN}&y".encode())
    assert (gate.request.path, gate.request.original_path) == (b"/a?x=1&y", None)

    forwarding = Gate(provider(forward=True))
    await forwarding.get(None, f"/a?access_token={TOKEN}".encode())
    assert forwarding.request.path == f"/a?access_token={TOKEN}".encode()
    assert forwarding.request.original_path == b"/a"

    await gate.get(None, b"/a?access_token=bad&x")
    assert gate.request.original_path == b"/a?x"


async def test_no_log_shows_a_token_that_nobody_has_looked_at() -> None:
    gate = Gate()
    preflight = [(b"origin", b"https://a.example"), (b"access-control-request-method", b"PUT")]
    request = made_request(f"/a?access_token={TOKEN}".encode(), method=b"OPTIONS", headers=preflight)
    await gate.service(request)
    assert (request.path, request.original_path) == (f"/a?access_token={TOKEN}".encode(), b"/a")


class Issuer:
    """What is fetched from an issuer: `answer`, or an error."""

    def __init__(self, *keys: SigningKey) -> None:
        self.fetched: list[str] = []
        self.error: Exception | None = None
        self.publish(*keys)

    def publish(self, *keys: SigningKey) -> None:
        sets = [json.loads(key.jwks())["keys"] for key in keys]
        self.answer = json.dumps({"keys": [key for one in sets for key in one]}).encode()

    async def get(self, url: str, timeout_s: float) -> bytes:
        self.fetched.append(url)
        if self.error is not None:
            raise self.error
        if "openid" in url:
            return b'{"issuer": "me", "jwks_uri": "http://keys.test/jwks"}'
        return self.answer


REMOTE = RemoteJwks("http://keys.test/jwks")


def remote(issuer: Issuer, source: RemoteJwks = REMOTE) -> tuple[Gate, Issuers]:
    issuers = Issuers(issuer.get)
    return Gate(JwtProvider("p", "me", source), issuers=issuers), issuers


async def test_keys_are_fetched_before_anybody_asks_and_again_every_five_minutes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    issuer = Issuer(KEY)
    gate, issuers = remote(issuer)
    nursery.start_soon(issuers.run)
    await trio.testing.wait_all_tasks_blocked()
    assert len(issuer.fetched) == 1
    assert (await gate.get()).status == 200
    await trio.sleep(601)
    assert len(issuer.fetched) == 3


async def test_a_request_waits_for_the_first_keys(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    issuer = Issuer(KEY)
    gate, issuers = remote(issuer)
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await gate.get()).status)

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    assert answers == []
    nursery.start_soon(issuers.run)
    await trio.testing.wait_all_tasks_blocked()
    assert answers == [200]


async def test_an_issuer_out_of_reach_makes_nobody_wait_twice(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = Issuer(KEY)
    issuer.error = OSError("nobody there")
    gate, issuers = remote(issuer)
    nursery.start_soon(issuers.run)
    await trio.testing.wait_all_tasks_blocked()
    started = trio.current_time()
    response = await gate.get()
    assert (response.status, response.body) == (401, b"Jwks remote fetch is failed")
    assert trio.current_time() == started
    assert "no keys from http://keys.test/jwks: nobody there; its tokens are refused" in caplog.text
    assert (await gate.get(None)).status == 200

    issuer.error = None
    await trio.sleep(2)
    assert (await gate.get()).status == 200


@pytest.mark.parametrize("answer", [OSError("down"), b"nonsense", b"[]", b'{"keys": []}', b"\xff"])
async def test_keys_that_are_known_stay_when_a_fetch_fails(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, answer: Exception | bytes
) -> None:
    issuer = Issuer(KEY)
    gate, issuers = remote(issuer)
    nursery.start_soon(issuers.run)
    await trio.testing.wait_all_tasks_blocked()
    if isinstance(answer, bytes):
        issuer.answer = answer
    else:
        issuer.error = answer
    await trio.sleep(400)
    assert len(issuer.fetched) > 2
    assert (await gate.get()).status == 200


async def test_a_token_by_a_new_key_has_keys_fetched_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    issuer = Issuer(KEY)
    gate, issuers = remote(issuer)
    nursery.start_soon(issuers.run)
    await trio.testing.wait_all_tasks_blocked()
    issuer.publish(KEY, OTHER)
    assert (await gate.get(OTHER.sign(CLAIMS))).status == 200
    assert len(issuer.fetched) == 2


async def test_bad_tokens_do_not_flood_an_issuer(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    issuer = Issuer(KEY)
    gate, issuers = remote(issuer)
    nursery.start_soon(issuers.run)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(100):
        assert (await gate.get(SigningKey.generate().sign(CLAIMS))).status == 401
    assert len(issuer.fetched) == 2
    await trio.sleep(UNKNOWN_KEY_PAUSE_S)
    for _ in range(100):
        assert (await gate.get(SigningKey.generate().sign({**CLAIMS, "iss": "you"}))).status == 401
    assert len(issuer.fetched) == 2


async def test_a_key_that_is_withdrawn_verifies_no_more_even_what_it_has(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    issuer = Issuer(KEY)
    gate, issuers = remote(issuer)
    nursery.start_soon(issuers.run)
    await trio.testing.wait_all_tasks_blocked()
    assert (await gate.get()).status == 200
    issuer.publish(OTHER)
    await trio.sleep(301)
    assert (await gate.get()).status == 401


async def test_an_issuer_tells_where_its_keys_are(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    issuer = Issuer(KEY)
    gate, issuers = remote(issuer, RemoteJwks("http://me.test/.well-known/openid-configuration", discovered=True))
    nursery.start_soon(issuers.run)
    await trio.testing.wait_all_tasks_blocked()
    assert (await gate.get()).status == 200
    assert issuer.fetched == ["http://me.test/.well-known/openid-configuration", "http://keys.test/jwks"]


async def test_listeners_share_what_is_fetched() -> None:
    issuers = Issuers(Issuer(KEY).get)
    keys = issuers.keys(REMOTE)
    assert isinstance(keys, FetchedKeys)
    assert issuers.keys(RemoteJwks("http://keys.test/jwks")) is keys
