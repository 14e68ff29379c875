"""An upstream that cannot be reached, breaks the protocol or dies midway: Envoy's status, body, flag and details."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing

from .support import (
    GET,
    OK,
    Peer,
    Script,
    answers,
    answers_and_closes,
    backend,
    cluster,
    forward,
    gateway,
    snapshot,
    stable,
    unreachable,
    until,
    unused_address,
)

POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
RESET = "upstream connect error or disconnect/reset before headers. reset reason: "
BEFORE = "upstream_reset_before_response_started"


async def test_a_refused_connection_is_503_UF() -> None:
    config = snapshot(cluster(unused_address()))
    async with gateway(config) as proxy:
        client = await proxy.client()
        for data in (GET, POST):
            answer = await client.request(data)
            assert (answer.status, answer.body.decode()) == (503, RESET + "remote connection failure")
            assert answer.header("connection") is None
        for line in await proxy.logged(2):
            assert (line.status, line.flags, line.service_time) == (503, "UF", "-")
            assert line.details == BEFORE + "{remote_connection_failure|delayed_connect_error:_Connection_refused}"
            assert line.upstream == proxy.hosts[0].name
        assert proxy.hosts[0].connect_failures == 2


async def test_a_local_reply_is_written_as_envoy_writes_it() -> None:
    async with gateway(snapshot(cluster(unused_address()))) as proxy:
        client = await proxy.client()
        await client.request(GET)
        assert stable(client.received) == (
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 98\r\ncontent-type: text/plain\r\ndate: <DATE>\r\n"
            b"server: meshproxy\r\n\r\n" + (RESET + "remote connection failure").encode()
        )


async def test_a_cluster_without_hosts_is_503_UH() -> None:
    async with gateway(snapshot(cluster())) as proxy:
        answer = await proxy.exchange(GET)
        assert (answer.status, answer.body) == (503, b"no healthy upstream")
        (line,) = await proxy.logged()
        assert (line.flags, line.details, line.upstream) == ("UH", "no_healthy_upstream", "-")


async def test_a_cluster_that_does_not_exist_is_503_NC() -> None:
    async with gateway(snapshot(routes=[forward("nowhere")])) as proxy:
        client = await proxy.client()
        await client.request(GET)
        assert stable(client.received) == (
            b"HTTP/1.1 503 Service Unavailable\r\ndate: <DATE>\r\nserver: meshproxy\r\ncontent-length: 0\r\n\r\n"
        )
        (line,) = await proxy.logged()
        assert (line.flags, line.details) == ("NC", "cluster_not_found")


async def test_a_connection_that_is_not_established_in_time_is_503_UF(
    mock_clock: trio.testing.MockClock,
) -> None:
    with unreachable() as address:
        async with gateway(snapshot(cluster(address, connect_timeout_s=3.0))) as proxy:
            client = await proxy.client()
            await client.send(GET)
            await until(lambda: proxy.hosts[0].active)
            mock_clock.jump(3.1)
            answer = await client.response()
            assert (answer.status, answer.body.decode()) == (503, RESET + "connection timeout")
            (line,) = await proxy.logged()
            assert (line.flags, line.details) == ("UF", BEFORE + "{connection_timeout}")


async def closes(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")


async def resets(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")
    connection.reset()


@pytest.mark.parametrize("script", [closes, resets])
@pytest.mark.parametrize("data", [GET, POST], ids=["GET", "POST"])
async def test_a_new_connection_that_is_closed_without_an_answer_is_503_UC(script: Script, data: bytes) -> None:
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        answer = await client.request(data)
        assert (answer.status, answer.body.decode()) == (503, RESET + "connection termination")
        assert answer.header("connection") is None
        (line,) = await proxy.logged()
        assert (line.flags, line.details) == ("UC", BEFORE + "{connection_termination}")
        assert len(server.connections) == 1


def then_closes_on_the_next(*first: bytes) -> Script:
    """Answer once, then close the connection on its second request; later connections answer."""
    seen = 0

    async def script(connection: Peer) -> None:
        nonlocal seen
        seen += 1
        await connection.message()
        await connection.send(OK)
        await connection.message()
        if seen == 1:
            for data in first:
                await connection.send(data)
            return
        await connection.send(OK)
        await connection.ended()

    return script


async def test_a_get_on_a_reused_connection_that_is_closed_on_it_is_sent_once_more() -> None:
    async with backend(then_closes_on_the_next()) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        assert [(await client.request(GET)).status for _ in range(2)] == [200, 200]
        assert [received.count(b"GET") for received in server.received] == [2, 1]
        assert [line.flags for line in await proxy.logged(2)] == ["-", "-"]
        assert (proxy.hosts[0].requests, proxy.hosts[0].connections_total) == (2, 2)


async def test_a_get_is_sent_no_third_time() -> None:
    async def script(connection: Peer) -> None:
        if connection is server.connections[0]:
            await connection.message()
            await connection.send(OK)
        await connection.message()

    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        assert [(await client.request(GET)).status for _ in range(2)] == [200, 503]
        assert [received.count(b"GET") for received in server.received] == [2, 1]
        assert (await proxy.logged(2))[1].flags == "UC"


async def test_a_get_is_not_sent_again_once_something_came_back() -> None:
    script = then_closes_on_the_next(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.request(GET)
        await client.send(GET)
        assert [(await client.response()).status for _ in range(2)] == [103, 503]
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    "data",
    [POST, b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ids=["not idempotent", "streamed"],
)
async def test_what_cannot_be_repeated_is_not_sent_again(data: bytes) -> None:
    async with backend(then_closes_on_the_next()) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.request(GET)
        assert (await client.request(data)).status == 503
        assert len(server.connections) == 1


@pytest.mark.parametrize("data", [GET, POST], ids=["GET", "POST"])
async def test_a_pooled_connection_that_was_closed_is_not_used(data: bytes) -> None:
    async with backend(answers_and_closes(OK)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.request(GET)
        await until(lambda: server.connections[0] not in Peer.open)
        assert (await client.request(data)).status == 200
        assert [received.count(b"HTTP/1.1") for received in server.received] == [1, 1]


@pytest.mark.parametrize("data", [GET, POST], ids=["GET", "POST"])
async def test_what_arrives_on_an_idle_connection_answers_no_request(data: bytes) -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(OK)
        if connection is server.connections[0]:
            await stray.wait()
            await connection.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
            sent.set()
        await connection.ended()

    stray, sent = trio.Event(), trio.Event()
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.request(GET)
        stray.set()
        await sent.wait()
        assert (await client.request(data)).status == 200
        assert len(server.connections) == 2


async def test_bytes_behind_a_response_end_its_connection_and_answer_no_request() -> None:
    async with backend(answers(OK + b"HTTP/1.1 200 OK\r\n", OK)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        assert [(await client.request(GET)).body for _ in range(2)] == [b"ok", b"ok"]
        assert len(server.connections) == 2


NO_HTTP = {
    "garbage": b"garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a field with a space in its name": b"HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n",
    "a field without a colon": b"HTTP/1.1 200 OK\r\nbad\r\n\r\n",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nx: \x00\r\n\r\n",
    "status 99": b"HTTP/1.1 99 OK\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\n\r\n",
    "content-length with transfer-encoding": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "differing content-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "a bad content-length": b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nhello",
    "an unknown transfer-encoding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"a: 1\r\n" * 101 + b"\r\n",
    "a head that breaks off": b"HTTP/1.1 200 OK\r\nx-a: 1\r\n",
    "an upgrade that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("upstream", NO_HTTP.values(), ids=NO_HTTP)
async def test_what_is_no_http_response_is_502_UPE(upstream: bytes) -> None:
    async with backend(answers_and_closes(upstream)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        answer = await client.request(GET)
        assert (answer.status, answer.body.decode()) == (502, RESET + "protocol error")
        assert answer.header("connection") is None
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.details) == (502, "UPE", BEFORE + "{protocol_error}")
        assert proxy.hosts[0].idle == []


CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BROKEN_OFF = {
    "content-length": (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", b"abc", b""),
    "content-length before any byte": (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", b"", b""),
    "chunked": (CHUNKED_HEAD, b"3\r\nabc\r\n", b""),
    "chunked within a chunk": (CHUNKED_HEAD, b"5\r\nabc", b""),
    "chunked without a last chunk's end": (CHUNKED_HEAD, b"3\r\nabc\r\n0\r\n", b""),
    "a bad chunk": (CHUNKED_HEAD, b"3\r\nabc\r\n", b"zz\r\n"),
    "a bad chunk at once": (CHUNKED_HEAD, b"", b"zz\r\n"),
}


def breaks_off(head: bytes, body: bytes, rest: bytes, go_on: trio.Event) -> Script:
    async def script(connection: Peer) -> None:
        await connection.message()
        if body:
            await connection.send(head + body)
            await go_on.wait()
            await connection.send(rest)
        else:
            await connection.send(head + rest)

    return script


@pytest.mark.parametrize(("head", "body", "rest"), BROKEN_OFF.values(), ids=BROKEN_OFF)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_client_can_tell_that_a_body_broke_off(head: bytes, body: bytes, rest: bytes, version: bytes) -> None:
    go_on = trio.Event()
    async with backend(breaks_off(head, body, rest, go_on)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(b"GET / HTTP/%b\r\nhost: h\r\n\r\n" % version)
        if body:
            await client.read_until(b"abc")
            client._read = 0
        go_on.set()
        answer = await client.response()
        assert (answer.status, answer.body, answer.whole) == (200, b"abc" if body else b"", False)
        assert await client.ended() == ("reset" if version == b"1.0" and head is CHUNKED_HEAD else "closed")
        (line,) = await proxy.logged()
        assert (line.status, line.flags) == (200, "UPE")
        assert line.details == "upstream_reset_after_response_started{protocol_error}"
        assert line.sent == len(answer.body)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_reset_is_not_the_end_of_a_body_that_ends_with_its_connection(version: bytes) -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await go_on.wait()
        connection.reset()

    go_on = trio.Event()
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(b"GET / HTTP/%b\r\nhost: h\r\n\r\n" % version)
        await client.read_until(b"abc")
        client._read = 0
        go_on.set()
        answer = await client.response()
        assert (answer.whole, await client.ended()) == (False, "closed" if version == b"1.1" else "reset")
        (line,) = await proxy.logged()
        assert line.flags == "UPE"


async def test_an_answer_that_came_before_the_connection_broke_is_passed_on() -> None:
    async def script(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")

    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n")
        with suppress(ConnectionError):
            await client.send(bytes(50_000_000))
        answer = await client.response()
        assert (answer.status, answer.body, answer.header("connection")) == (413, b"no", "close")
        (line,) = await proxy.logged()
        assert (line.status, line.flags) == (413, "-")
