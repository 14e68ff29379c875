"""Requests' bodies are collected before anything is sent on, up to a size."""

from __future__ import annotations

import pytest

from meshproxy.snapshot import Buffer, Snapshot

from .support import GET, Backend, backend, gateway, snapshot

POST = b"POST / HTTP/1.1\r\nhost: h.test\r\n"


def buffering(server: Backend, size: int = 10) -> Snapshot:
    return snapshot(server, buffer=Buffer(size))


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"content-length: 10\r\n\r\n0123456789",
        POST + b"transfer-encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
    ],
)
async def test_a_body_of_the_limit_passes_with_its_length(request_: bytes) -> None:
    async with backend() as server, gateway(buffering(server)) as running:
        answer = await running.exchange(request_)

    assert answer.status == 200
    assert server.received[0].endswith(b"\r\n\r\n0123456789")
    assert b"\r\ncontent-length: 10\r\n" in server.received[0]
    assert b"transfer-encoding" not in server.received[0]


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"content-length: 11\r\n\r\n0123456789a",
        POST + b"content-length: 11\r\n\r\n",
        POST + b"expect: 100-continue\r\ncontent-length: 11\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n4\r\n0123\r\n7\r\n456789a\r\n",
    ],
)
async def test_a_larger_body_is_refused_as_soon_as_that_is_known(request_: bytes) -> None:
    async with backend() as server, gateway(buffering(server)) as running:
        answer = await running.exchange(request_)
        [line] = await running.logged()

    assert (answer.status, answer.body) == (413, b"Payload Too Large")
    assert (line.flags, line.details) == ("-", "request_payload_too_large")
    assert server.connections == []


async def test_nothing_is_sent_on_before_the_body_is_whole() -> None:
    async with backend() as server, gateway(buffering(server)) as running:
        client = await running.client()
        await client.send(POST + b"content-length: 10\r\n\r\n01")
        await running.exchange(GET)  # by the time that is answered, the half body has been read
        assert not any(b"POST" in received for received in server.received)
        await client.send(b"23456789")
        answer = await client.response()

    assert answer.status == 200
    assert any(received.endswith(b"\r\n\r\n0123456789") for received in server.received)


async def test_a_client_that_waits_for_a_word_gets_one() -> None:
    async with backend() as server, gateway(buffering(server)) as running:
        client = await running.client()
        interim = await client.request(POST + b"expect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        answer = await client.request(b"abcd")

    assert (interim.status, answer.status) == (100, 200)
    assert b"expect" not in server.received[0]


async def test_a_client_that_leaves_before_its_body_is_whole_costs_the_upstream_nothing() -> None:
    async with backend() as server, gateway(buffering(server)) as running:
        client = await running.client()
        await client.send(POST + b"content-length: 4\r\n\r\nab")
        client.close()
        [line] = await running.logged()

    assert (line.status, line.flags) == (0, "DC")
    assert server.connections == []


async def test_a_kept_connection_serves_the_next_request() -> None:
    chunked = POST + b"transfer-encoding: chunked\r\n\r\n4\r\n0123\r\n0\r\n\r\n"
    async with backend() as server, gateway(buffering(server)) as running:
        client = await running.client()
        statuses = [(await client.request(chunked)).status for _ in range(3)]

    assert statuses == [200] * 3
    assert len(server.connections) == 1
