"""Circuit breakers between real sockets: as many as are allowed pass, the next is refused, every slot comes back."""

from __future__ import annotations

import json
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshproxy.snapshot import (
    CircuitBreakers,
    Endpoint,
    Prefix,
    Route,
    RouteAction,
    RouteMatch,
    SocketAddress,
    WeightedCluster,
)

from ..mesh.support import service_entry, snapshot_of
from .support import (
    CLUSTER,
    GET,
    LOCALHOST,
    OK,
    Answer,
    Backend,
    Client,
    Gateway,
    Holding,
    Peer,
    Script,
    answers,
    backend,
    cluster,
    forward,
    gateway,
    snapshot,
    until,
)
from .test_admin import counters, labels, page
from .test_cancellation import EXCHANGES, CancelAtStep, cancel_all

EXAMPLE = Path(__file__).parents[2] / "policies" / "istio-basics" / "istio-basics.yaml"
REFUSED = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
ONE_OF_EACH = CircuitBreakers(1, 1, 1)


def get(path: str) -> bytes:
    return GET.replace(b" / ", b" %b " % path.encode())


@asynccontextmanager
async def limited(script: Script, limits: CircuitBreakers, **options: Any) -> AsyncIterator[tuple[Gateway, Backend]]:
    """A gateway before one backend, which is all of a cluster with these limits."""
    async with (
        backend(script) as server,
        gateway(snapshot(cluster(server, circuit_breakers=limits)), **options) as proxy,
    ):
        yield proxy, server


async def sent(proxy: Gateway, path: str) -> Client:
    """A client that has sent a request."""
    client = await proxy.client()
    await client.send(get(path))
    return client


def breakers(proxy: Gateway) -> dict[str, int]:
    """How many connections, pending and active requests there are."""
    return {name: one.active for name, one in proxy.worker.clusters[CLUSTER].stats.breakers.items()}


def _are(proxy: Gateway, expected: dict[str, int]) -> bool:
    return breakers(proxy) == expected


def _have_come(holding: Holding, count: int) -> bool:
    return len(holding.paths) == count


async def refused(proxy: Gateway, path: str = "/refused") -> Answer:
    """The answer to a request that must be refused."""
    answer = await proxy.exchange(get(path))
    assert (answer.status, answer.body) == (503, REFUSED)
    assert answer.header("x-envoy-overloaded") == "true"
    return answer


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_as_many_requests_are_active_as_are_allowed_and_the_next_is_refused(limit: int) -> None:
    holding = Holding()
    async with limited(holding, CircuitBreakers(max_requests=limit)) as (proxy, _):
        clients = [await sent(proxy, "/") for _ in range(limit)]
        await until(lambda: len(holding.paths) == limit)

        await refused(proxy)

        await holding.answer(limit)
        assert [(await client.response()).status for client in clients] == [200] * limit
        await clients[0].send(get("/again"))
        await holding.answer()
        assert (await clients[0].response()).status == 200
        line = next(line for line in await proxy.logged(limit + 2) if line.path == "/refused")
        assert (line.flags, line.details) == ("UO", "upstream_reset_before_response_started{overflow}")


async def test_requests_wait_for_a_connection_first_come_first_served() -> None:
    holding = Holding()
    async with limited(holding, CircuitBreakers(max_connections=2)) as (proxy, server):
        clients = []
        for number in range(6):
            clients.append(await sent(proxy, f"/{number}"))
            active = min(number + 1, 2)
            await until(partial(_are, proxy, {"cx": active, "rq_pending": number + 1 - active, "rq": active}))
            await until(partial(_have_come, holding, active))
        for number in range(6):
            await until(partial(_have_come, holding, min(number + 2, 6)))
            await holding.answer()

        assert [(await client.response()).status for client in clients] == [200] * 6
        assert holding.paths == [f"/{number}" for number in range(6)]
        assert len(server.connections) == 2


async def test_as_many_requests_wait_as_are_allowed_and_the_next_is_refused() -> None:
    holding = Holding()
    async with limited(holding, CircuitBreakers(max_connections=1, max_pending_requests=2)) as (proxy, _):
        first = await sent(proxy, "/active")
        await until(lambda: holding.paths)
        waiting = [await sent(proxy, "/waiting") for _ in range(2)]
        await until(lambda: breakers(proxy)["rq_pending"] == 2)

        await refused(proxy)

        for client in (first, *waiting):
            await holding.answer()
            assert (await client.response()).status == 200


async def test_who_waits_waits_no_longer_than_the_routes_timeout(mock_clock: trio.testing.MockClock) -> None:
    holding = Holding()
    async with backend(holding) as server:
        limits = CircuitBreakers(max_connections=1, max_pending_requests=1)
        to = RouteAction((WeightedCluster(CLUSTER),), timeout_s=3.0)
        routes = [Route("", RouteMatch(Prefix("/limited")), to), forward()]
        async with gateway(snapshot(cluster(server, circuit_breakers=limits), routes=routes)) as proxy:
            first = await sent(proxy, "/active")
            await until(lambda: holding.paths)
            waiting = await sent(proxy, "/limited")
            await until(lambda: breakers(proxy)["rq_pending"] == 1)

            mock_clock.jump(3.1)
            answer = await waiting.response()

            assert (answer.status, answer.body) == (504, b"upstream request timeout")
            assert breakers(proxy) == {"cx": 1, "rq_pending": 0, "rq": 1}
            after = await sent(proxy, "/after")
            await until(lambda: breakers(proxy)["rq_pending"] == 1)
            for client in (first, after):
                await holding.answer()
                assert (await client.response()).status == 200
            line = next(line for line in await proxy.logged(3) if line.path == "/limited")
    assert (line.flags, line.details) == ("UT", "response_timeout")
    assert holding.paths == ["/active", "/after"]


async def test_a_request_is_active_until_its_responses_body_has_ended() -> None:
    more = trio.Event()

    async def streams(connection: Peer) -> None:
        while await connection.message():
            await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
            await more.wait()
            await connection.send(b"cd")

    async with limited(streams, CircuitBreakers(max_requests=1)) as (proxy, _):
        client = await sent(proxy, "/")
        await client.read_until(b"\r\n\r\nab")
        await refused(proxy)

        more.set()
        assert await client.read(2) == b"cd"
        assert (await proxy.exchange(GET)).status == 200


async def answered(client: Client, holding: Holding) -> None:
    await holding.answer()
    assert (await client.response()).status == 200


async def gone(client: Client, holding: Holding) -> None:
    client.close()


@pytest.mark.parametrize("ends", [answered, gone])
async def test_a_slot_comes_back_however_a_request_ends(ends: Callable[[Client, Holding], Awaitable[None]]) -> None:
    holding = Holding()
    async with limited(holding, ONE_OF_EACH) as (proxy, _):
        client = await sent(proxy, "/")
        await until(lambda: holding.paths)

        await ends(client, holding)
        await until(lambda: breakers(proxy)["rq"] == 0)

        another = await sent(proxy, "/another")
        await until(lambda: holding.paths[-1] == "/another")
        holding._held[-1].set()
        assert (await another.response()).status == 200


BROKEN = {
    "nothing": b"",
    "no HTTP": b"garbage\r\n\r\n",
    "503": b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
    "part of a body": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
}


@pytest.mark.parametrize("response", BROKEN.values(), ids=BROKEN)
async def test_a_slot_comes_back_whatever_the_endpoint_does(response: bytes) -> None:
    async def script(connection: Peer) -> None:
        path = (await connection.message()).split(b" ")[1]
        await connection.send(response if path == b"/broken" else OK)

    async with limited(script, ONE_OF_EACH) as (proxy, _):
        for _ in range(3):
            await proxy.exchange(get("/broken").replace(b"GET", b"PUT"))
            assert (await proxy.exchange(GET)).status == 200


async def test_a_client_that_leaves_the_queue_makes_room_in_it() -> None:
    holding = Holding()
    async with limited(holding, ONE_OF_EACH) as (proxy, _):
        first = await sent(proxy, "/active")
        await until(lambda: holding.paths)
        leaving = await sent(proxy, "/leaving")
        await until(lambda: breakers(proxy)["rq_pending"] == 1)
        leaving.close()
        await until(lambda: breakers(proxy)["rq_pending"] == 0)
        staying = await sent(proxy, "/staying")
        await until(lambda: breakers(proxy)["rq_pending"] == 1)

        for client in (first, staying):
            await holding.answer()
            assert (await client.response()).status == 200
        assert holding.paths == ["/active", "/staying"]


async def test_who_waits_is_served_on_a_new_connection_when_the_endpoint_closes_the_old_one() -> None:
    release = trio.Event()

    async def closes(connection: Peer) -> None:
        await connection.message()
        await release.wait()
        connection.send_now(OK)  # and with it, that the connection ends: nobody is to be given it in between

    async with limited(closes, CircuitBreakers(max_connections=1)) as (proxy, server):
        clients = [await sent(proxy, "/") for _ in range(3)]
        await until(lambda: breakers(proxy) == {"cx": 1, "rq_pending": 2, "rq": 1})
        release.set()

        assert [(await client.response()).status for client in clients] == [200] * 3
        assert len(server.connections) == 3


async def test_each_endpoint_may_have_one_connection_whatever_the_limit() -> None:
    holding = Holding()
    async with backend(holding) as one, backend(holding) as other:
        config = cluster(one, other, lb_policy="ROUND_ROBIN", circuit_breakers=CircuitBreakers(max_connections=1))
        async with gateway(snapshot(config)) as proxy:
            clients = [await sent(proxy, "/") for _ in range(4)]
            await until(lambda: breakers(proxy) == {"cx": 2, "rq_pending": 2, "rq": 2})
            await holding.answer(4)

            assert [(await client.response()).status for client in clients] == [200] * 4
            assert (len(one.connections), len(other.connections)) == (1, 1)


@pytest.mark.parametrize(("behave", "script"), EXCHANGES.values(), ids=EXCHANGES)
async def test_every_slot_comes_back_wherever_an_exchange_is_cancelled(
    behave: Callable[[Client], Awaitable[None]], script: Script
) -> None:
    await _cancelled_everywhere(script, behave)


async def test_every_slot_comes_back_wherever_those_who_wait_are_cancelled() -> None:
    async def three(client: Client, others: Callable[[], Awaitable[Client]]) -> None:
        clients = [client, await others(), await others()]
        for one in clients:
            await one.send(GET)
        for one in clients:
            with suppress(EOFError, OSError):
                await one.response()
            one.close()

    step, fired = 0, True
    while fired:
        step += 1
        async with limited(answers(OK), CircuitBreakers(max_connections=1)) as (proxy, _):
            fired = await _cancelled_at(step, proxy, partial(three, others=proxy.client))
    assert step > 5


async def _cancelled_everywhere(script: Script, behave: Callable[[Client], Awaitable[None]]) -> None:
    step, fired = 0, True
    while fired:
        step += 1
        async with limited(script, ONE_OF_EACH) as (proxy, _):
            fired = await _cancelled_at(step, proxy, behave)
    assert step > 2


async def _cancelled_at(step: int, proxy: Gateway, behave: Callable[[Client], Awaitable[None]]) -> bool:
    """Cancel everything when the tasks have made so many steps; whether it came to that. Then all must be as before."""
    cancelling = CancelAtStep(step, partial(cancel_all, proxy))
    trio.lowlevel.add_instrument(cancelling)
    client = await proxy.client()
    with suppress(EOFError, OSError):
        await behave(client)
    trio.lowlevel.remove_instrument(cancelling)
    client.close()
    if cancelling.fired:
        await until(partial(operator.not_, proxy.connections))
        await proxy.settled()
        assert breakers(proxy)["rq_pending"] == breakers(proxy)["rq"] == 0
    return cancelling.fired


async def test_the_metrics_tell_of_limits_and_of_what_was_refused() -> None:
    holding = Holding()
    limits = CircuitBreakers(max_connections=1, max_pending_requests=1)
    async with limited(holding, limits, admin=True) as (proxy, _):
        first = await sent(proxy, "/")
        await until(lambda: holding.paths)
        second = await sent(proxy, "/")
        await until(lambda: breakers(proxy)["rq_pending"] == 1)
        await refused(proxy)

        counted = await counters(proxy)
        name = labels(envoy_cluster_name=CLUSTER)
        prefix = "envoy_cluster_circuit_breakers_default"
        expected = {
            "envoy_cluster_upstream_cx_overflow_total": 1,
            "envoy_cluster_upstream_rq_pending_overflow_total": 1,
            "envoy_cluster_upstream_rq_active_overflow_total": 0,
            "envoy_cluster_upstream_rq_pending_active": 1,
            f"{prefix}_cx_open": 1,
            f"{prefix}_rq_pending_open": 1,
            f"{prefix}_rq_open": 0,
            f"{prefix}_remaining_cx": 0,
            f"{prefix}_remaining_pending": 0,
        }
        assert {key: counted[key, name] for key in expected} == expected
        assert (f"{prefix}_remaining_rq", name) not in counted

        for client in (first, second):
            await holding.answer()
            await client.response()


async def test_clusters_shows_the_limits_that_there_are() -> None:
    free = cluster(name="free")
    bound = cluster(name="bound", circuit_breakers=CircuitBreakers(max_connections=7))
    async with gateway(snapshot(free, bound), admin=True) as proxy:
        text = (await page(proxy, "/clusters")).body
        shown = json.loads((await page(proxy, "/clusters?format=json")).body)

    assert text == b"bound::default_priority::max_connections::7\n"
    assert shown == {"free": {}, "bound": {"default_priority": {"max_connections": 7}}}


async def test_a_cluster_without_limits_has_none_of_this() -> None:
    async with backend() as server, gateway(snapshot(server), admin=True) as proxy:
        await proxy.exchange(GET)
        names = {name for name, _ in await counters(proxy)}

    assert not [name for name in names if "circuit_breakers" in name or "pending" in name]


async def test_hosts_that_come_later_count_for_the_same_limits() -> None:
    holding = Holding()
    async with backend(holding) as one, backend(holding) as other:
        config = cluster(one, circuit_breakers=CircuitBreakers(max_requests=1))
        async with gateway(snapshot(config)) as proxy:
            client = await sent(proxy, "/")
            await until(lambda: holding.paths)
            running = proxy.worker.clusters[CLUSTER]
            running.update_hosts([Endpoint(other.address)])  # type: ignore[union-attr]

            await refused(proxy)

            await holding.answer()
            assert (await client.response()).status == 200
            later = await sent(proxy, "/later")
            await holding.answer()
            assert (await later.response()).status == 200


async def test_the_limits_of_the_first_example_hold_at_exactly_their_numbers() -> None:
    """maxConnections 100, http1MaxPendingRequests 50, http2MaxRequests 100, maxRequestsPerConnection 5."""
    holding = Holding()
    async with backend(holding) as server:
        assert isinstance(server.address, SocketAddress)
        service = service_entry("service-a", port=server.address.port)
        config = snapshot_of(EXAMPLE.read_text(), service, publish={80: LOCALHOST})
        (name,) = (one.name for one in config.clusters if "service-a" in one.name)
        async with gateway(config) as proxy:
            (proxy.worker.addresses["http"],) = proxy.worker.addresses.values()
            limits = proxy.worker.clusters[name].stats.breakers

            clients = []
            for number in range(150):
                clients.append(await sent(proxy, f"/service-a/{number}"))
                await until(lambda: limits["rq"].active + limits["rq_pending"].active == len(clients))
                await until(lambda: holding.held == min(len(clients), 100))
            assert {key: one.active for key, one in limits.items()} == {"cx": 100, "rq_pending": 50, "rq": 100}
            await refused(proxy, "/service-a/refused")

            await holding.answer(150)
            assert [(await client.response()).status for client in clients] == [200] * 150
            client = clients[0]
            for number in range(351):
                await client.send(get(f"/service-a/{number}"))
                await holding.answer()
                assert (await client.response()).status == 200
            assert [one.received.count(b"GET ") for one in server.connections] == [5] * 100 + [1]
