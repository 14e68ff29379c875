"""The examples in docs/access.md do what is said of them, between real sockets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt

from meshproxy.snapshot import SocketAddress
from meshproxy.telemetry.prometheus import render

from .mesh.support import GATEWAY, problems_of, service_entry, snapshot_of, virtual_service
from .proxy.support import Backend, Gateway, answers, backend, gateway

DOCS = (Path(__file__).parents[1] / "docs" / "access.md").read_text()
INGRESS = GATEWAY.replace("name: gw", "name: ingress")
ROUTES = virtual_service("- route: [{destination: {host: shop}}]", hosts="shop.example.com").replace(
    "[gw]", "[ingress]"
)
SECRET = b"shop-example-key-of-32-bytes----"


def example(heading: str) -> str:
    """The YAML below a heading."""
    section = DOCS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None, heading
    return found[1]


@asynccontextmanager
async def running(heading: str, *more: str) -> AsyncIterator[tuple[Gateway, Backend, Backend]]:
    """A gateway with the example, before `shop` and `shop-next`."""
    async with backend() as shop, backend() as following:
        entries = []
        for name, one in (("shop", shop), ("shop-next", following)):
            assert isinstance(one.address, SocketAddress)
            entries.append(service_entry(name, port=one.address.port))
        documents = (INGRESS, *entries, example(heading), *more)
        assert problems_of(*documents) == []
        config = snapshot_of(*documents, publish={80: SocketAddress("127.0.0.1", 0)})
        async with gateway(config) as proxy:
            proxy.worker.addresses["http"] = next(iter(proxy.worker.addresses.values()))
            yield proxy, shop, following


def request(target: str = "/", *lines: str, method: str = "GET", host: str = "shop.example.com") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"host: {host}", *lines, "", ""]).encode()


def heads(backend: Backend) -> list[bytes]:
    """The heads of the requests that came to a backend."""
    return [head for received in backend.received for head in received.split(b"\r\n\r\n") if head]


def token(**claims: Any) -> str:
    return jwt.encode({"iss": "https://issuer.example.com", "sub": "alice", "aud": "shop", **claims}, SECRET, "HS256")


async def test_tokens() -> None:
    async with running("Tokens", ROUTES) as (proxy, shop, _):
        nobody = await proxy.exchange(request())
        public = await proxy.exchange(request("/public/x", "x-user: root"))
        alice = await proxy.exchange(request("/", f"authorization: Bearer {token()}", "x-user: root"))
        session = await proxy.exchange(request("/", f"cookie: session={token()}"))
        expired = await proxy.exchange(request("/public/x", f"authorization: Bearer {token(exp=1)}"))
        others = await proxy.exchange(request("/", f"authorization: Bearer {token(aud='other')}"))
        lines = await proxy.logged(6)

    assert [one.status for one in (nobody, public, alice, session, expired, others)] == [403, 200, 200, 200, 401, 403]
    assert expired.body == b"Jwt is expired"
    assert expired.header("www-authenticate") == (
        'Bearer realm="http://shop.example.com/public/x", error="invalid_token"'
    )
    assert [line.details for line in lines if line.status != 200] == [
        "rbac_access_denied_matched_policy[none]",
        "jwt_authn_access_denied{Jwt_is_expired}",
        "jwt_authn_access_denied{Audiences_in_Jwt_are_not_allowed}",
    ]
    [public_seen] = (head for head in heads(shop) if b"/public" in head)
    alice_seen = next(head for head in heads(shop) if b"x-user" in head)
    assert b"x-user" not in public_seen
    assert b"x-user: alice" in alice_seen.split(b"\r\n")
    assert b"authorization" not in alice_seen


async def test_policies() -> None:
    async with running("Policies", ROUTES) as (proxy, _, _):
        answers = [
            await proxy.exchange(one)
            for one in (
                request(),
                request(method="DELETE"),
                request("/", "x-team: blue-2", method="DELETE"),
                request("/admin/x"),
                request("//Admin"),
                request("/teams/a/secrets/b/c"),
                request("/teams/a/b/secrets"),
            )
        ]
        lines = await proxy.logged(7)
        counted = render(proxy.worker.metrics).decode()

    assert [one.status for one in answers] == [200, 403, 200, 403, 403, 403, 200]
    assert answers[1].body == b"RBAC: access denied"
    denied = "rbac_access_denied_matched_policy[ns[istio-system]-policy[no-admin]-rule[0]]"
    assert [line.details for line in lines if line.status != 200] == [
        "rbac_access_denied_matched_policy[none]",
        denied,
        denied,
        denied,
    ]
    assert re.search(r"^envoy_http_rbac_denied_total\{.*\} 4\.0$", counted, re.MULTILINE)


async def test_routes_by_claims() -> None:
    async with running("Routes by claims") as (proxy, shop, following):
        for lines in (
            (),
            (f"authorization: Bearer {token(groups=['testers'])}",),
            (f"authorization: Bearer {token()}",),
        ):
            assert (await proxy.exchange(request("/", *lines))).status == 200

    assert (len(heads(shop)), len(heads(following))) == (2, 1)


async def test_others_that_decide() -> None:
    allows = b"HTTP/1.1 200 OK\r\nx-user: alice\r\ncontent-length: 0\r\n\r\n"
    denies = (
        b"HTTP/1.1 302 Found\r\nlocation: /login\r\nset-cookie: a=b\r\nx-inside: secret\r\ncontent-length: 0\r\n\r\n"
    )
    async with backend(answers(allows, denies)) as judge:
        assert isinstance(judge.address, SocketAddress)
        entry = service_entry("judge", port=judge.address.port)
        async with running("Others that decide", ROUTES, entry) as (proxy, shop, _):
            free = await proxy.exchange(request("/"))
            allowed = await proxy.exchange(
                request("/orders/1", "cookie: c=d", "x-user: root", "x-tenant-a: 7", "x-b: c")
            )
            denied = await proxy.exchange(request("/orders/2"))

    assert [one.status for one in (free, allowed, denied)] == [200, 200, 302]
    [asked, _] = heads(judge)
    assert asked.startswith(b"GET /orders/1 HTTP/1.1\r\nhost: shop.example.com\r\n")
    assert (b"cookie: c=d" in asked, b"x-tenant-a: 7" in asked, b"x-b: c" in asked) == (True, True, False)
    assert b"x-user: alice" in heads(shop)[1]
    assert b"root" not in heads(shop)[1]
    assert (denied.header("location"), denied.header("set-cookie"), denied.header("x-inside")) == (
        "/login",
        "a=b",
        None,
    )
