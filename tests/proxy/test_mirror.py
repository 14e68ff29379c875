"""Copies of requests: they arrive, and the request that is copied knows nothing of them, whatever becomes of them."""

from __future__ import annotations

import random
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from meshproxy.proxy.filters import mirror
from meshproxy.proxy.filters.context import FilterContext
from meshproxy.proxy.http.message import Body, Request, Response
from meshproxy.proxy.worker import Worker
from meshproxy.snapshot import (
    Cluster,
    FractionalPercent,
    RequestMirrorPolicy,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    Snapshot,
    WeightedCluster,
)

from .chi_squared import fits
from .made import Backend as Service
from .made import made_request
from .support import (
    CLUSTER,
    GET,
    OK,
    Backend,
    Peer,
    Script,
    answers,
    backend,
    cluster,
    gateway,
    silent,
    snapshot,
    until,
    unused_address,
)

COPY = "outbound|80||copy.test"
NO = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"


def mirroring(server: Backend, copy: Cluster, *, percent: int = 100) -> Snapshot:
    policy = RequestMirrorPolicy(COPY, FractionalPercent(percent))
    route = Route("", RouteMatch(), RouteAction((WeightedCluster(CLUSTER),), mirrors=(policy,)))
    return snapshot(cluster(server), copy, routes=[route])


def copy_of(server: Backend) -> Cluster:
    return cluster(server, name=COPY)


async def test_a_copy_arrives_and_its_connection_serves_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_MAX_COPIES", 1)
    async with backend() as server, backend() as copy, gateway(mirroring(server, copy_of(copy))) as running:
        client = await running.client()
        for number in range(1, 4):
            assert (await client.request(GET)).status == 200
            await until(lambda number=number: b"".join(copy.received).count(b"\r\n\r\n") == number)  # type: ignore[misc]
            await running.settled()

    assert len(copy.connections) == 1
    assert b"\r\nhost: h.test-shadow\r\n" in copy.received[0]
    assert b"\r\nx-envoy-internal: true\r\n" in copy.received[0]
    assert b"-shadow" not in server.received[0]


@pytest.mark.parametrize(
    ("authority", "marked"),
    [
        (b"h.test", b"h.test-shadow"),
        (b"h.test:8080", b"h.test-shadow:8080"),
        (b"[::1]", b"[::1]-shadow"),
        (b"[::1]:80", b"[::1]-shadow:80"),
        (b"h:x", b"h:x-shadow"),
    ],
)
async def test_a_copys_host_has_a_mark_before_its_port(authority: bytes, marked: bytes) -> None:
    copies = Service()
    forwarded = [(b"x-forwarded-for", b"192.0.2.9"), (b"x-forwarded-for", b"192.0.2.7")]
    request = made_request(authority=authority, headers=list(forwarded))

    async with trio.open_nursery() as nursery:
        context = FilterContext(lambda: 0.0, nursery.start_soon)
        policy = mirror.Mirror(FractionalPercent(100), copies, context)
        await mirror.mirrored([policy], Service())(request)

    assert (request.authority, copies.request.authority) == (authority, marked)
    assert copies.request.headers[0] == (b"x-forwarded-for", b"192.0.2.9,192.0.2.7,198.51.100.1")
    assert request.headers == forwarded


async def test_as_many_requests_are_copied_as_the_percentage_says() -> None:
    copies, number = Service(), 2000
    async with trio.open_nursery() as nursery:
        context = FilterContext(random.Random(1).random, nursery.start_soon)
        policies = [mirror.Mirror(FractionalPercent(30), copies, context)]
        for _ in range(number):
            await mirror.mirrored(policies, Service())(made_request())

    assert fits([len(copies.requests), number - len(copies.requests)], [0.3, 0.7])


async def test_a_body_that_streams_is_copied_while_it_streams() -> None:
    head = b"POST / HTTP/1.1\r\nhost: h.test\r\ntransfer-encoding: chunked\r\n\r\n"
    async with backend() as server, backend() as copy, gateway(mirroring(server, copy_of(copy))) as running:
        client = await running.client()
        await client.send(head + b"3\r\nabc\r\n")
        await until(lambda: copy.received and copy.received[0].endswith(b"3\r\nabc\r\n"))
        assert (await client.request(b"2\r\nde\r\n0\r\nx-t: 1\r\n\r\n")).status == 200
        await until(lambda: copy.received[0].endswith(b"2\r\nde\r\n0\r\nx-t: 1\r\n\r\n"))


@pytest.mark.parametrize("script", [silent, answers(NO), answers(b"what?")])
async def test_a_mirror_that_hangs_or_fails_neither_slows_nor_fails_the_request(script: Script) -> None:
    async with backend() as server, backend(script) as copy:
        worker = Worker(mirroring(server, copy_of(copy)), drain_time_s=0.1)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            client = Peer(trio.socket.socket())
            await client.socket.connect((worker.addresses["http"].host, worker.addresses["http"].port))
            for _ in range(3):
                await client.send(GET)
                assert (await client.message()).endswith(b"ok")
            await until(lambda: len(copy.connections) >= 1)
            client.close()
            worker.stop()

    hosts = [host for one in worker.clusters.values() for host in one.hosts]
    assert not any(host.active or host.connections for host in hosts)


async def test_a_copy_is_sent_once_whatever_the_retries_of_the_route() -> None:
    policy = RequestMirrorPolicy(COPY)
    action = RouteAction((WeightedCluster(CLUSTER),), mirrors=(policy,), retry_policy=RetryPolicy(("5xx",), 3))
    async with backend() as server, backend(answers(NO, OK)) as copy:
        config = snapshot(cluster(server), copy_of(copy), routes=[Route("", RouteMatch(), action)])
        async with gateway(config) as running:
            for _ in range(2):
                assert (await running.exchange(GET)).status == 200
            await running.settled()

    assert sum(received.count(b"GET / ") for received in copy.received) == 2


async def test_a_mirror_that_is_not_there_does_not_matter() -> None:
    nowhere = cluster(unused_address(), name=COPY)
    async with backend() as server, gateway(mirroring(server, nowhere)) as running:
        assert (await running.exchange(GET)).body == b"ok"
        [line] = await running.logged()

    assert (line.status, line.flags) == (200, "-")


async def reads_nothing(connection: Peer) -> None:
    await trio.sleep_forever()


async def test_a_mirror_that_reads_nothing_is_broken_off_and_the_request_goes_on() -> None:
    size = 16 << 20
    head = b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: %d\r\n\r\n" % size
    stuck = backend(reads_nothing)
    async with backend() as server, stuck as copy, gateway(mirroring(server, copy_of(copy))) as running:
        client = await running.client()
        await client.send(head)
        await copy.connected()
        await client.send(bytes(size))
        assert (await client.response()).status == 200
        assert len(server.received[0]) > size
        await running.settled()  # the copy has given back what it had


async def test_copies_that_wait_hold_so_much_together_and_give_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_MAX_BEHIND_TOGETHER", 250_000)
    backlog, source = mirror._Backlog(), cast(Body, SimpleNamespace(finished=False))
    first, second, third = (mirror._CopiedBody(None, backlog) for _ in range(3))

    for one in (first, second, third):
        one.add(bytes(100_000), source)

    assert [one.scope.cancel_called for one in (first, second, third)] == [False, False, True]
    assert backlog.size == 200_000
    await first.receive()
    second.close()
    assert backlog.size == 0


async def test_a_copy_that_is_too_far_behind_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_MAX_BEHIND", 150_000)
    copy = mirror._CopiedBody(None, mirror._Backlog())

    for broken_off in (False, True):
        copy.add(bytes(100_000), cast(Body, SimpleNamespace(finished=False)))
        assert copy.scope.cancel_called is broken_off


async def test_a_protocols_upgrade_is_not_copied() -> None:
    copied, request = Service(), made_request()
    request.upgrade = b"websocket"

    async with trio.open_nursery() as nursery:
        to = mirror.Mirror(FractionalPercent(100), copied, FilterContext(lambda: 0.0, nursery.start_soon))
        await mirror.mirrored([to], Service())(request)

    assert copied.requests == []


async def test_a_copy_of_a_request_that_breaks_off_breaks_off_too() -> None:
    head = b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: 5\r\n\r\nab"
    async with backend() as server, backend() as copy, gateway(mirroring(server, copy_of(copy))) as running:
        client = await running.client()
        await client.send(head)
        await until(lambda: copy.received and copy.received[0].endswith(b"ab"))
        client.close()
        assert await copy.connections[0].ended() in ("closed", "reset")
        await running.settled()


async def test_a_copy_of_a_request_that_fails_before_its_body_is_read_is_ended() -> None:
    head = b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: 5\r\n\r\nab"
    async with backend() as copy:
        route = Route("", RouteMatch(), RouteAction((WeightedCluster(CLUSTER),), mirrors=(RequestMirrorPolicy(COPY),)))
        config = snapshot(cluster(unused_address()), copy_of(copy), routes=[route])
        async with gateway(config) as running:
            assert (await running.exchange(head)).status == 503
            await running.settled()


async def answers_early_and_reads_no_more(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")
    await wait_all_tasks_blocked(0.01)  # until no more can be sent
    await connection.send(NO)
    await trio.sleep_forever()


async def sends_as_long_as_it_may(client: Peer, data: bytes) -> None:
    with suppress(OSError, trio.ClosedResourceError):
        await client.send(data)


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_copy_of_an_upload_that_is_answered_early_is_ended(retries: int) -> None:
    size = 32 << 20
    head = b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: %d\r\n\r\n" % size
    policy = RetryPolicy(("gateway-error",), num_retries=retries)
    mirrors = (RequestMirrorPolicy(COPY),)
    route = Route("", RouteMatch(), RouteAction((WeightedCluster(CLUSTER),), mirrors=mirrors, retry_policy=policy))
    early = backend(answers_early_and_reads_no_more)
    async with (
        early as server,
        backend(silent) as copy,
        trio.open_nursery() as nursery,
        gateway(snapshot(cluster(server), copy_of(copy), routes=[route])) as running,
    ):
        client = await running.client()
        await client.send(head)
        nursery.start_soon(sends_as_long_as_it_may, client, bytes(size))
        assert (await client.response()).status == 500
        await running.settled()


async def test_there_is_a_bound_to_the_copies_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_MAX_COPIES", 2)
    async with backend() as server, backend(silent) as copy, trio.open_nursery() as nursery:
        worker = Worker(mirroring(server, copy_of(copy)), drain_time_s=0.1)
        await nursery.start(worker.run)
        client = Peer(trio.socket.socket())
        await client.socket.connect((worker.addresses["http"].host, worker.addresses["http"].port))
        for _ in range(5):
            await client.send(GET)
            assert (await client.message()).endswith(OK[-2:])
        await copy.connected(2)
        client.close()
        worker.stop()
    assert len(copy.connections) == 2


async def test_copies_of_bodies_that_came_whole_hold_so_much_together_and_give_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror, "_MAX_BEHIND_TOGETHER", 250)
    answered, copied = trio.Event(), []

    async def hanging(request: Request) -> Response:
        copied.append(request)
        await answered.wait()
        return Response(200, [])

    async with trio.open_nursery() as nursery:
        to = mirror.Mirror(FractionalPercent(100), hanging, FilterContext(lambda: 0.0, nursery.start_soon))
        service = mirror.mirrored([to], Service())
        for size in (100, 100, 100, 50):
            await service(made_request(method=b"POST", body=bytes(size)))
        await wait_all_tasks_blocked()
        assert sorted(len(cast(bytes, one.body)) for one in copied) == [50, 100, 100]
        answered.set()
    assert to.backlog.size == 0


async def test_a_mirrors_large_response_is_not_read_to_its_end() -> None:
    size = 8 << 20
    generous = backend(answers(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size)))
    async with backend() as server, generous as copy, gateway(mirroring(server, copy_of(copy))) as running:
        assert (await running.exchange(GET)).status == 200
        await copy.connected()
        await running.settled()
        [to_copy] = running.worker.clusters[COPY].hosts
        assert not to_copy.idle
