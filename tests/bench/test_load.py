"""The load generator between real sockets, and as a command."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from bench.__main__ import main
from bench.load import Outcome, Target, generate, target

from ..proxy.support import OK, Backend, Peer, answers, backend

_RATE = 200.0
_STALL_S = 0.5


def aim(server: Backend, method: str = "GET", body: bytes = b"") -> Target:
    return target(f"http://{server.address}/path?query", method, [("X-Made", "by us")], body)


async def load(
    at: Target, *, rate: float = _RATE, duration_s: float = 0.1, connections: int = 4, timeout_s: float = 5.0
) -> Outcome:
    return await generate(at, rate=rate, duration_s=duration_s, connections=connections, timeout_s=timeout_s)


async def test_every_request_that_is_due_is_sent_and_answered() -> None:
    async with backend(answers(OK)) as server:
        outcome = await load(aim(server))
        assert outcome.requests == outcome.latencies.count == outcome.statuses[200] == 20
        assert not outcome.errors
        assert len(server.received) <= 4, "connections are kept alive"


async def test_a_request_is_what_was_asked_for() -> None:
    async with backend(answers(OK)) as server:
        await load(aim(server, "POST", b"body"), connections=1)
        [received] = server.received
        first = received[: received.index(b"body") + 4]
        head, _, body = first.partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"POST /path?query HTTP/1.1",
            b"host: " + str(server.address).encode(),
            b"x-made: by us",
            b"content-length: 4",
        ]
        assert body == b"body"


async def test_a_stall_is_seen_by_every_request_that_was_due_meanwhile() -> None:
    """Coordinated omission: on one connection, only one request was sent in time to see the server stall."""
    stalled = False

    async def script(connection: Peer) -> None:
        nonlocal stalled
        while True:
            await connection.message()
            if not stalled:
                stalled = True
                await trio.sleep(_STALL_S)
            await connection.send(OK)

    async with backend(script) as server:
        outcome = await load(aim(server), duration_s=_STALL_S, connections=1)
        assert outcome.requests == _RATE * _STALL_S
        # Those due in the first half of the stall waited for at least the other half.
        assert outcome.latencies.percentile(50) >= 1e6 * _STALL_S / 2 - 1e6 / _RATE
        assert outcome.latencies.max >= 1e6 * _STALL_S


async def test_a_request_that_could_not_be_sent_in_time_is_a_timeout_and_counts_as_slow() -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await trio.sleep_forever()

    async with backend(script) as server:
        outcome = await load(aim(server), connections=1, timeout_s=0.05)
        assert outcome.errors["timeout"] == outcome.requests == outcome.latencies.count
        assert outcome.latencies.percentile(1) >= 50_000


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "status 5xx"),
        (b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", "status 4xx"),
        (b"no HTTP at all\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n", "protocol"),
    ],
)
async def test_errors_are_counted_by_kind(answer: bytes, error: str) -> None:
    async with backend(answers(answer)) as server:
        outcome = await load(aim(server))
        assert outcome.errors == {error: outcome.requests}


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"])
async def test_a_connection_that_breaks_off_is_a_reset(answer: bytes) -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(answer)

    async with backend(script) as server:
        outcome = await load(aim(server))
        assert outcome.errors == {"reset": outcome.requests}


async def test_nobody_listening_is_an_error_of_connecting() -> None:
    listening = trio.socket.socket()
    await listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    outcome = await load(target(f"http://127.0.0.1:{port}/"))
    listening.close()
    assert outcome.errors == {"connect": outcome.requests}
    assert not outcome.latencies.count


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\n" + OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ntrailer: a\r\n\r\n",
    ],
)
async def test_answers_of_all_framings_are_read_to_their_end(answer: bytes) -> None:
    async with backend(answers(answer)) as server:
        outcome = await load(aim(server))
        assert not outcome.errors
        assert outcome.latencies.count == outcome.requests


async def test_a_connection_that_the_server_closes_is_opened_anew() -> None:
    async def script(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")

    async with backend(script) as server:
        outcome = await load(aim(server))
        assert not outcome.errors
        assert len(server.received) >= outcome.requests


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["load", *arguments])


async def _run(*arguments: str) -> Result:
    return await trio.to_thread.run_sync(partial(run, *arguments))


async def test_the_command_tells_latencies_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    async with backend(answers(OK)) as server:
        result = await _run(f"http://{server.address}/", "--rate", "100", "--duration", "200ms", "--json", str(file))
    assert result.exit_code == 0
    assert "20 requests" in result.output
    assert "p99.9" in result.output
    figures = json.loads(file.read_text())
    assert figures["requests"] == 20
    assert figures["statuses"] == {"200": 20}
    assert figures["latency_ms"]["p50"] > 0


async def test_a_figure_over_its_limit_is_told_and_ends_in_exit_code_1() -> None:
    async with backend(answers(OK)) as server:
        url = f"http://{server.address}/"
        limits = ["--fail-over", "p99=1us", "--fail-over", "errors=0"]
        result = await _run(url, "--rate", "100", "--duration", "100ms", *limits)
    assert result.exit_code == 1
    assert "over p99=1us: " in result.output
    assert "over errors=0" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["https://127.0.0.1/"],
        ["http://127.0.0.1:1/", "--fail-over", "p99"],
        ["http://127.0.0.1:1/", "--header", "nothing"],
        ["http://127.0.0.1:1/", "--data", "@/nowhere"],
        ["http://127.0.0.1:1/", "--rate", "0"],
    ],
)
def test_an_option_that_makes_no_sense_ends_in_exit_code_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
