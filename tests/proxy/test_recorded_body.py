"""A large body is sent again as it was, wherever it was kept meanwhile, and nothing of it is kept in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import trio

from meshproxy.proxy import splice
from meshproxy.proxy.http.message import Headers
from meshproxy.proxy.splice import Sink
from meshproxy.proxy.upstream.recorded_body import recorded

from .support import OK, Peer, Script, answers_and_closes, backend, gateway, until
from .test_retries import NO, hangs, in_turn, resets, routed
from .test_splicing import LARGE, payload, post, send_in_pieces

BODY = payload(LARGE)


@pytest.fixture(params=["in pipes", "in memory", "in memory after some in pipes", "copied"], autouse=True)
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where bodies are kept; in the end nothing is."""
    match request.param:
        case "copied":
            monkeypatch.setattr(splice, "_works", lambda: False)
        case _ if not (splice._works() and splice._keeps()):
            pytest.skip("this system cannot keep what it splices")
        case "in memory":
            monkeypatch.setattr(splice, "_keeps", lambda: False)
        case "in memory after some in pipes":
            monkeypatch.setattr(splice, "_MAX_KEEPING", 1)
    yield
    assert not splice._keeping
    assert not splice._in_use


async def closes_in_the_request(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")
    await connection.read(LARGE // 2)


@pytest.mark.parametrize(
    "bad", [answers_and_closes(NO), resets, closes_in_the_request], ids=["503", "resets", "closes in the request"]
)
async def test_a_large_body_is_sent_again_as_it_was(bad: Script) -> None:
    async def good(connection: Peer) -> None:
        received.append((await connection.message()).partition(b"\r\n\r\n")[2])
        await connection.send(OK)
        await connection.ended()

    received: list[bytes] = []
    async with backend(in_turn(bad, bad, good)) as server, gateway(routed(server)) as proxy:
        async with trio.open_nursery() as nursery:
            client = await proxy.client()
            nursery.start_soon(send_in_pieces, client, post(BODY))
            answer = await client.response()
        [line] = await proxy.logged()

    assert answer.status == 200
    assert [one == BODY for one in received] == [True]
    assert line.received == LARGE


async def test_an_answer_before_the_end_of_the_body_lets_go_of_what_was_kept() -> None:
    async def hasty(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.read(LARGE // 2)
        await connection.send(OK)
        await connection.ended()

    async with backend(hasty) as server, gateway(routed(server)) as proxy:
        client = await proxy.client()
        await client.send(post(BODY[: LARGE // 2], LARGE))
        answer = await client.response()
        await proxy.logged()

    assert answer.status == 200


async def test_an_answer_may_come_while_the_body_goes_on() -> None:
    async def hasty(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.read(LARGE // 2)
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
        received.append(await connection.read(LARGE - LARGE // 2))
        await connection.send(b"lf")
        await connection.ended()

    received: list[bytes] = []
    async with backend(hasty) as server, gateway(routed(server)) as proxy:
        client = await proxy.client()
        await client.send(post(BODY[: LARGE // 2], LARGE))
        await client.read_until(b"ha")
        await client.send(BODY[LARGE // 2 :])
        await client.read_until(b"lf")

    assert [one == BODY[LARGE // 2 :] for one in received] == [True]


@pytest.mark.parametrize("first", [2, 100_000], ids=["read", "spliced"])
async def test_what_comes_for_a_try_that_has_failed_is_not_lost_to_the_last(first: int) -> None:
    async def refuses(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.read(first)
        await trio.testing.wait_all_tasks_blocked()  # its sender waits for more
        await connection.send(NO)
        await connection.ended()

    async def hasty(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        received.append(await connection.read(first))
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
        received.append(await connection.read(LARGE - first))
        await connection.send(b"lf")
        await connection.ended()

    received: list[bytes] = []
    async with backend(in_turn(refuses, hasty)) as server, gateway(routed(server)) as proxy:
        client = await proxy.client()
        await client.send(post(BODY[:first], LARGE))
        await client.read_until(b"ha")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_in_pieces, client, BODY[first:])
            await client.read_until(b"lf")

    assert b"".join(received) == BODY


class Trickle:
    """A body that comes as the test says."""

    length: int | None = None
    finished = False

    def __init__(self) -> None:
        self.trailers: Headers = []
        self.say, self._said = trio.open_memory_channel[bytes](1)

    async def receive(self) -> bytes:
        piece = await self._said.receive()
        self.finished = not piece
        return piece

    async def splice_to(self, sink: Sink, sent: Callable[[int], None]) -> None: ...

    def receive_nowait(self) -> bytes:
        return b""

    def close(self) -> None: ...


async def test_what_comes_for_a_try_that_has_failed_is_kept_though_there_is_no_room_for_it() -> None:
    source = Trickle()
    failed = recorded(source, 10, lambda: None)
    source.say.send_nowait(b"12345678")
    await failed.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(failed.receive)
        await trio.testing.wait_all_tasks_blocked()
        another = failed.again()
        source.say.send_nowait(b"90abc")

    source.say.send_nowait(b"")
    assert [await another.receive() for _ in range(3)] == [b"12345678", b"90abc", b""]


async def test_what_comes_for_a_try_that_has_failed_is_not_kept_when_there_is_no_other() -> None:
    source = Trickle()
    failed = recorded(source, 10, lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(failed.receive)
        await trio.testing.wait_all_tasks_blocked()
        failed.again().settle(answered=False)
        source.say.send_nowait(b"hello")

    assert not failed._record.pieces


async def test_several_tries_wait_for_the_rest_of_a_body() -> None:
    async def refuses(connection: Peer) -> None:
        await connection.read_until(b"he")
        await trio.testing.wait_all_tasks_blocked()  # its sender waits for more
        await connection.send(NO)
        await connection.ended()

    async def good(connection: Peer) -> None:
        await connection.read_until(b"he")
        tried.set()
        await connection.read_until(b"llo")
        await connection.send(OK)
        await connection.ended()

    tried = trio.Event()
    async with backend(in_turn(refuses, refuses, good)) as server, gateway(routed(server)) as proxy:
        client = await proxy.client()
        await client.send(post(b"he", 5))
        await tried.wait()
        await trio.testing.wait_all_tasks_blocked()
        await client.send(b"llo")
        answer = await client.response()

    assert answer.status == 200


async def test_a_client_that_leaves_lets_go_of_what_was_kept() -> None:
    async with backend(hangs) as server, gateway(routed(server)) as proxy:
        client = await proxy.client()
        await client.send(post(BODY))
        await until(lambda: server.received and len(server.received[0]) > LARGE)
        client.reset()
        [line] = await proxy.logged()

    assert line.flags == "DC"


async def test_many_bodies_are_kept_at_a_time() -> None:
    async def script(connection: Peer) -> None:
        with suppress(EOFError):
            while True:
                came.append(await connection.message())
                answer = NO if len(came) <= count else OK
                await until(lambda: len(came) >= count)
                await connection.send(answer)

    came: list[bytes] = []
    count = splice._MAX_IN_USE  # more than there are pipes for: the others are kept in memory
    async with backend(script) as server, gateway(routed(server)) as proxy, trio.open_nursery() as nursery:
        clients = [await proxy.client() for _ in range(count)]
        for client in clients:
            nursery.start_soon(client.send, post(BODY))
        statuses = [(await client.response()).status for client in clients]

    assert statuses == [200] * count
    assert [one.endswith(BODY) for one in came] == [True] * 2 * count
