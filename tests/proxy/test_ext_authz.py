"""Another service decides about requests: whatever goes wrong with it, nothing passes that it has not allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from meshproxy.identity.minting import SigningKey
from meshproxy.proxy.filters import ext_authz as filter_module
from meshproxy.snapshot import (
    AnyRequest,
    BufferSettings,
    CircuitBreakers,
    Exact,
    ExtAuthz,
    HeaderMatcher,
    JwtAuthentication,
    JwtProvider,
    LocalJwks,
    Prefix,
    Rbac,
    RbacFilter,
    RbacPolicy,
    RouteMatch,
    UrlPath,
)

from .support import (
    GET,
    OK,
    Backend,
    Client,
    Gateway,
    Holding,
    Peer,
    Script,
    answers,
    answers_and_closes,
    backend,
    cluster,
    forward,
    gateway,
    silent,
    snapshot,
    until,
    unused_address,
)
from .test_cancellation import CHUNKED_POST, CancelAtStep, cancel_all, expecting, upload

JUDGE = "judge"
NO = b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde"


def rules(*paths: str, action: Any = "DENY") -> Rbac:
    """Everything, or what is at these paths."""
    asked = tuple(UrlPath(Exact(path)) for path in paths) or (AnyRequest(),)
    return Rbac(action, (RbacPolicy("p", asked, (AnyRequest(),)),))


@asynccontextmanager
async def asking(
    script: Script = answers(OK),  # noqa: B008
    app: Script = answers(OK),  # noqa: B008
    limits: CircuitBreakers = CircuitBreakers(),  # noqa: B008
    http: dict[str, Any] | None = None,
    **config: Any,
) -> AsyncIterator[tuple[Gateway, Backend, Backend]]:
    """A gateway before `app`, which has somebody asked who answers by `script`; then the app, and who is asked."""
    config = {"rules": rules(), **config}
    async with backend(app) as server, backend(script) as judge:
        clusters = (cluster(server), cluster(judge, name=JUDGE, circuit_breakers=limits))
        authz = ExtAuthz(JUDGE, config.pop("cluster", JUDGE), **config)
        async with gateway(snapshot(*clusters, ext_authz=authz, **(http or {}))) as proxy:
            yield proxy, server, judge


def decisions(proxy: Gateway) -> Counter[str]:
    """What was counted, by Envoy's names."""
    (stats,) = proxy.worker.metrics.listeners.values()
    return Counter(stats.decisions)


async def test_what_is_allowed_passes_and_is_counted() -> None:
    async with asking() as (proxy, server, judge):
        assert (await proxy.exchange(GET)).status == 200
        assert (len(server.connections), len(judge.connections)) == (1, 1)
        assert decisions(proxy) == Counter(ext_authz_ok=1)


async def test_what_is_denied_reaches_nobody_and_the_log_tells_why() -> None:
    async with asking(answers(NO)) as (proxy, server, _):
        answer = await proxy.exchange(GET)
        assert (answer.status, answer.body) == (403, b"no")
        [line] = await proxy.logged()
        assert (line.flags, line.details) == ("UAEX", "ext_authz_denied")
        assert server.connections == []
        assert decisions(proxy) == Counter(ext_authz_denied=1)


async def test_only_what_meets_a_rule_is_asked_about_also_by_what_a_lenient_server_reads() -> None:
    async with asking(answers(NO), rules=rules("/admin")) as (proxy, _, judge):
        free = await proxy.exchange(GET)
        asked = [await proxy.exchange(GET.replace(b" / ", b" %b " % path)) for path in (b"/admin", b"//Admin;x")]
        assert (free.status, [one.status for one in asked]) == (200, [403, 403])
        assert decisions(proxy) == Counter(ext_authz_disabled=1, ext_authz_denied=2)
        assert len(judge.connections) == 1  # kept, as any connection to an upstream is


@pytest.mark.parametrize(
    "script",
    [
        answers(b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n"),
        answers(b"nonsense\r\n\r\n"),
        answers_and_closes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"),
        answers_and_closes(b""),
        answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"),
        answers(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"),
    ],
)
async def test_an_answer_that_decides_nothing_is_an_error_and_nothing_passes(script: Script) -> None:
    async with asking(script) as (proxy, server, _):
        answer = await proxy.exchange(GET)
        assert (answer.status, answer.body) == (403, b"")
        [line] = await proxy.logged()
        assert (line.flags, line.details) == ("UAEX", "ext_authz_error")
        assert server.connections == []
        assert decisions(proxy) == Counter(ext_authz_error=1)


async def test_an_answer_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_module, "MAX_ANSWER", 1000)

    async def endless(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await connection.send(b"x" * 100)

    async with asking(endless) as (proxy, server, _):
        assert (await proxy.exchange(GET)).status == 403
        assert server.connections == []


@pytest.mark.parametrize("name", ["nobody", JUDGE])
async def test_nobody_to_ask_is_an_error(name: str) -> None:
    clusters = (cluster(unused_address()), cluster(unused_address(), name=JUDGE))
    authz = ExtAuthz(JUDGE, name, rules(), status_on_error=429)
    async with gateway(snapshot(*clusters, ext_authz=authz)) as proxy:
        assert (await proxy.exchange(GET)).status == 429
        assert decisions(proxy) == Counter(ext_authz_error=1)


async def test_an_error_lets_pass_where_that_is_wanted_and_a_denial_never() -> None:
    script = answers(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", NO)
    async with asking(script, failure_mode_allow=True) as (proxy, _, _):
        assert [(await proxy.exchange(GET)).status for _ in range(2)] == [200, 403]
        assert decisions(proxy) == Counter(ext_authz_error=1, ext_authz_failure_mode_allowed=1, ext_authz_denied=1)


async def test_an_answer_that_takes_too_long_is_an_error(autojump_clock: trio.testing.MockClock) -> None:
    async with asking(silent, timeout_s=7.0) as (proxy, server, _):
        before = trio.current_time()
        assert (await proxy.exchange(GET)).status == 403
        assert trio.current_time() - before == pytest.approx(7.0)
        assert server.connections == []


async def test_an_answer_whose_body_takes_too_long_is_an_error(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
        await trio.sleep_forever()

    async with asking(slow, timeout_s=7.0) as (proxy, server, _):
        assert (await proxy.exchange(GET)).status == 403
        assert server.connections == []


async def test_a_question_goes_through_the_limits_of_its_cluster() -> None:
    holding = Holding()
    async with asking(holding, limits=CircuitBreakers(max_requests=1)) as (proxy, _, _):
        first = await proxy.client()
        await first.send(GET)
        await until(lambda: holding.held)
        assert (await proxy.exchange(GET)).status == 403
        await holding.answer()
        assert (await first.response()).status == 200
        assert decisions(proxy) == Counter(ext_authz_error=1, ext_authz_ok=1)


async def test_a_client_that_leaves_is_asked_about_no_longer() -> None:
    holding = Holding()
    async with asking(holding) as (proxy, server, _):
        client = await proxy.client()
        await client.send(GET)
        await until(lambda: holding.held)
        client.close()
        await until(lambda: not proxy.connections)
        assert server.connections == []


async def test_a_dry_run_asks_nobody_and_only_counts() -> None:
    nothing = Rbac("DENY", ())
    async with asking(answers(NO), rules=nothing, shadow_rules=rules("/admin")) as (proxy, _, judge):
        assert (await proxy.exchange(GET)).status == 200
        assert (await proxy.exchange(GET.replace(b" / ", b" /admin "))).status == 200
        assert judge.connections == []
        assert decisions(proxy) == Counter(ext_authz_shadow_matched=1, ext_authz_disabled=2)


async def test_it_is_asked_before_tokens_and_policies_are_looked_at() -> None:
    key = SigningKey.generate()
    tokens = JwtAuthentication((JwtProvider("t", "me", LocalJwks(key.jwks())),))
    http = {"jwt_authn": tokens, "rbac": (RbacFilter(rules("/no")),)}
    bad = b"GET /no HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer bad\r\n\r\n"
    async with asking(answers(NO, OK), http=http) as (proxy, _, judge):
        assert [(await proxy.exchange(bad)).status for _ in range(2)] == [403, 401]
        assert (await proxy.exchange(GET.replace(b" / ", b" /no "))).body == b"RBAC: access denied"
        assert judge.received[0].count(b"authorization: Bearer bad\r\n") == 2


async def test_no_log_shows_a_token_of_what_is_denied_before_tokens_are_looked_at() -> None:
    key = SigningKey.generate()
    tokens = JwtAuthentication((JwtProvider("t", "me", LocalJwks(key.jwks())),))
    async with asking(answers(NO), http={"jwt_authn": tokens}) as (proxy, _, judge):
        await proxy.exchange(GET.replace(b" / ", b" /a?access_token=secret&b=c "))
        [line] = await proxy.logged()
        assert line.path == "/a?b=c"
        assert judge.received[0].startswith(b"GET /a?access_token=secret&b=c ")


async def test_what_it_says_takes_the_place_of_what_a_client_says() -> None:
    allowed = b"HTTP/1.1 200 OK\r\nx-user: alice\r\nx-other: b\r\ncontent-length: 0\r\n\r\n"
    async with asking(answers(allowed), allowed_upstream_headers=(Exact("x-user"),)) as (proxy, server, _):
        await proxy.exchange(b"GET / HTTP/1.1\r\nHost: h\r\nX-User: root\r\nX-User: admin\r\nX-Other: a\r\n\r\n")
        lines = server.received[0].split(b"\r\n")
        assert [line for line in lines if line.startswith((b"x-user", b"x-other"))] == [b"x-other: a", b"x-user: alice"]


@pytest.mark.parametrize("clear", [False, True])
async def test_routes_are_found_before_it_changes_headers_unless_it_says_so_or_claims_are_there(clear: bool) -> None:
    key = SigningKey.generate()
    bearer = key.sign({"iss": "me", "sub": "bob"}).encode()
    allowed = b"HTTP/1.1 200 OK\r\nx-user: alice\r\ncontent-length: 0\r\n\r\n"

    async with backend() as plain, backend() as alices, backend(answers(allowed)) as judge:
        servers = {"plain": plain, "alices": alices}
        clusters = (*(cluster(one, name=name) for name, one in servers.items()), cluster(judge, name=JUDGE))
        by_user = forward("alices", RouteMatch(headers=(HeaderMatcher("x-user", Exact("alice")),)))
        authz = ExtAuthz(JUDGE, JUDGE, rules(), clear_route_cache=clear, allowed_upstream_headers=(Exact("x-user"),))
        config = snapshot(
            *clusters,
            routes=[by_user, forward("plain")],
            ext_authz=authz,
            jwt_authn=JwtAuthentication((JwtProvider("t", "me", LocalJwks(key.jwks())),)),
        )
        async with gateway(config) as proxy:
            await proxy.exchange(GET)
            assert [name for name, one in servers.items() if one.connections] == ["alices" if clear else "plain"]
            await proxy.exchange(b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %b\r\n\r\n" % bearer)
            assert len(alices.connections) == 1  # claims have routes found anew, as in Envoy


async def test_headers_for_the_client_come_also_with_a_failure() -> None:
    allowed = b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"
    async with backend(answers(allowed)) as judge:
        authz = ExtAuthz(JUDGE, JUDGE, rules(), allowed_client_headers_on_success=(Exact("set-cookie"),))
        config = snapshot(cluster(unused_address()), cluster(judge, name=JUDGE), ext_authz=authz)
        async with gateway(config) as proxy:
            answer = await proxy.exchange(GET)
            assert (answer.status, answer.header("set-cookie")) == (503, "a=b")


async def test_no_answer_changes_how_a_message_is_delimited() -> None:
    framing = b"content-length: 40\r\nconnection: close\r\nupgrade: h2c\r\n\r\n"
    every = tuple(Exact(name) for name in ("content-length", "connection", "transfer-encoding", "upgrade"))
    async with asking(
        answers(b"HTTP/1.1 200 OK\r\n" + framing + b"x" * 40),
        allowed_upstream_headers=every,
        allowed_client_headers_on_success=every,
    ) as (proxy, server, _):
        client = await proxy.client()
        assert (await client.request(POST)).body == b"ok"
        assert (await client.request(GET)).status == 200
        assert b"content-length: 5\r\n" in server.received[0]
        assert server.received[0].count(b"content-length") == 1
        assert b"h2c" not in server.received[0]


async def test_no_client_says_what_only_the_proxy_tells() -> None:
    own = (b"X-Envoy-Auth-Partial-Body: false", b"X-Envoy-Internal: false", b"X-Envoy-Expected-Rq-Timeout-Ms: 1")
    lines = b"\r\n".join((*own, b"X-A: b", b""))
    async with asking(allowed_headers=(Prefix("x-"),), http={"use_remote_address": False}) as (proxy, _, judge):
        await proxy.exchange(GET.replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n"))
        told = [line for line in judge.received[0].split(b"\r\n") if line.startswith((b"x-envoy", b"x-a"))]
        assert told == [b"x-a: b", b"x-envoy-internal: true", b"x-envoy-expected-rq-timeout-ms: 600000"]


async def test_a_body_is_shown_and_still_arrives_whole() -> None:
    async with asking(with_request_body=BufferSettings(1000)) as (proxy, server, judge):
        client = await proxy.client()
        await client.send(CHUNKED_POST + b"3\r\nabc\r\n")
        await judge_is_not_asked_yet(judge)
        assert (await client.request(b"2\r\nde\r\n0\r\nx-end: yes\r\n\r\n")).status == 200
        assert judge.received[0].endswith(b"\r\n\r\nabcde")
        assert b"x-envoy-auth-partial-body: false\r\n" in judge.received[0]
        assert server.received[0].endswith(b"0\r\nx-end: yes\r\n\r\n")


async def judge_is_not_asked_yet(judge: Backend) -> None:
    await trio.testing.wait_all_tasks_blocked()
    assert judge.connections == []


async def test_the_beginning_of_a_body_is_enough_and_the_rest_streams_on() -> None:
    async with asking(with_request_body=BufferSettings(4, allow_partial_message=True)) as (proxy, server, judge):
        client = await proxy.client()
        await client.send(CHUNKED_POST + b"6\r\nabcdef\r\n")
        await judge.connected()
        await until(lambda: server.connections and b"abcdef" in server.received[0])
        assert (await client.request(b"3\r\nghi\r\n0\r\n\r\n")).status == 200
        assert judge.received[0].endswith(b"\r\n\r\nabcd")
        assert b"x-envoy-auth-partial-body: true\r\n" in judge.received[0]


async def test_a_body_that_is_too_large_to_be_shown_is_refused_also_where_errors_pass() -> None:
    async with asking(with_request_body=BufferSettings(4), failure_mode_allow=True) as (proxy, server, judge):
        assert (await proxy.exchange(POST, "POST")).status == 413
        chunks = CHUNKED_POST + b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
        assert (await proxy.exchange(chunks, "POST")).status == 413
        assert (server.connections, judge.connections) == ([], [])


async def test_a_client_that_waits_for_a_word_is_told_to_send_what_is_to_be_shown() -> None:
    async with asking(with_request_body=BufferSettings(1000)) as (proxy, server, _):
        client = await proxy.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.response("POST")).status == 100
        assert (await client.request(b"he", "POST")).status == 200
        assert b"expect" not in server.received[0]


async def test_a_denied_upgrade_is_none() -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with asking(answers(NO), with_request_body=BufferSettings(10)) as (proxy, server, judge):
        assert (await proxy.exchange(upgrade)).status == 403
        assert b"upgrade" not in judge.received[0]
        assert server.connections == []


async def once(client: Client) -> None:
    await client.request(GET)


@pytest.mark.parametrize("behave", [once, upload, expecting])
async def test_everything_comes_back_wherever_it_is_cancelled(behave: Callable[[Client], Awaitable[None]]) -> None:
    step, fired = 0, True
    while fired:
        step += 1
        async with asking(with_request_body=BufferSettings(1000)) as (proxy, _, _):
            cancelling = CancelAtStep(step, partial(cancel_all, proxy))
            trio.lowlevel.add_instrument(cancelling)
            client = await proxy.client()
            with suppress(EOFError, OSError):
                await behave(client)
            trio.lowlevel.remove_instrument(cancelling)
            fired = cancelling.fired
    assert step > 3
