"""What is no proper request gets a clear answer, reaches no upstream, and takes nothing else down with it."""

from __future__ import annotations

import pytest
import trio.testing

from meshproxy.snapshot import DirectResponseAction, Route, RouteMatch

from .support import GET, OK, Peer, answers, backend, gateway, silent, snapshot, stable, until

POST = b"POST / HTTP/1.1\r\nHost: h\r\n"
NOT_FOUND = Route("", RouteMatch(), DirectResponseAction(404))

# What is sent, the status it gets, and what the access log says of it.
REFUSED = {
    "content-length with transfer-encoding": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        *(400, "http1.content_length_and_chunked_not_allowed"),
    ),
    "differing content-lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "ontent-Length"),
    "equal content-lengths": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "Content-Length"),
    "a list of content-lengths": (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400, "Content-Length"),
    "a signed content-length": (POST + b"Content-Length: +5\r\n\r\nhello", 400, "Content-Length"),
    "an enormous content-length": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400, "Content-Length"),
    "an unknown transfer-encoding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "encoding"),
    "chunked twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501, "encoding"),
    "a disguised transfer-encoding": (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, "codec_error"),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "1.0"),
    "obs-fold": (b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n 2\r\n\r\n", 400, "obs-fold"),
    "a bare CR": (b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\rX-B: 2\r\n\r\n", 400, "bare_CR"),
    "a bare LF": (b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\nX-B: 2\r\n\r\n", 400, "bare_LF"),
    "lines that end with LF": (b"GET / HTTP/1.1\nHost: h\n\n", 400, "bare_LF"),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: h\r\nX-A: \x00\r\n\r\n", 400, "http1."),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "http1."),
    "not HTTP": (b"hello there\r\n\r\n", 400, "not_an_HTTP_request"),
    "a TLS greeting": (bytes.fromhex("16030100a5010000a10303") + bytes(100), 400, "http1."),
    "another protocol": (b"GET / RTSP/1.0\r\nHost: h\r\n\r\n", 400, "not_an_HTTP_request"),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 426, "low_version"),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400, "not_an_HTTP_request"),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400, "two_Hosts"),
    "no Host": (b"GET / HTTP/1.1\r\nX-A: 1\r\n\r\n", 400, "missing_host_header"),
    "a Host that is none": (b"GET / HTTP/1.1\r\nHost: h/i\r\n\r\n", 400, "http.invalid_authority"),
    "a fragment": (b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400, "fragment"),
    "no method known": (b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "method"),
    "a field without a colon": (b"GET / HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n", 400, "codec_error"),
    "a field without a name": (b"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", 400, "codec_error"),
    "a head too large": (b"GET / HTTP/1.1\r\nHost: h\r\nX-A: " + b"a" * 61440 + b"\r\n\r\n", 431, "headers_too_large"),
    "a target too large": (b"GET /" + b"a" * 61440, 431, "headers_too_large"),
    "too many fields": (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: 1\r\n" * 100 + b"\r\n", 431, "too_many_headers"),
}


@pytest.mark.parametrize(("sent", "status", "reason"), REFUSED.values(), ids=REFUSED)
async def test_bad_input_is_refused_with_its_reason_in_the_log(sent: bytes, status: int, reason: str) -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(sent + GET)
        answer = await client.response()
        assert (answer.status, answer.header("connection"), answer.whole) == (status, "close", True)
        assert await client.read_all() == b"", "the pipelined request must not be served"
        (line,) = await proxy.logged()
        assert (line.status, line.upstream, line.sent) == (status, "-", len(answer.body))
        assert reason in line.details
        assert server.connections == []


async def test_a_refusal_is_written_as_envoy_writes_it() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nbad\r\n\r\n")
        assert stable(await client.read_all()) == (
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\ncontent-type: text/plain\r\ndate: <DATE>\r\n"
            b"server: meshproxy\r\nconnection: close\r\n\r\nBad Request"
        )
        (line,) = await proxy.logged()
        assert line[:9] == ("-", "-", "HTTP/1.1", 400, "DPE", 0, 11, 0, "-")


async def test_requests_before_the_bad_one_are_answered_first() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET + b"nonsense\r\n\r\n" + GET)
        assert [(await client.response()).status for _ in range(2)] == [200, 400]
        assert await client.read_all() == b""
        assert [line.status for line in await proxy.logged(2)] == [200, 400]
        assert len(server.connections) == 1


BROKEN_CHUNKS = {
    "size that is no number": b"zz\r\nabc\r\n0\r\n\r\n",
    "size with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-1\r\nabc\r\n0\r\n\r\n",
    "enormous size": b"f" * 17 + b"\r\n",
    "empty size": b"\r\nabc\r\n0\r\n\r\n",
    "size ended by LF": b"3\nabc\r\n0\r\n\r\n",
    "data longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "bad trailer": b"0\r\nbad trailer\r\n\r\n",
    "endless extension": b"3;" + b"x" * 5000,
}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
async def test_a_broken_chunk_is_answered_400_and_ends_the_upstream_request(body: bytes) -> None:
    async with backend(silent) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        answer = await client.request(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body + GET)
        assert (answer.status, answer.body, answer.header("connection")) == (400, b"Bad Request", "close")
        assert await client.read_all() == b""
        (line,) = await proxy.logged()
        assert (line.method, line.status, line.flags, line.upstream) == ("POST", 400, "DPE", str(server.address))
        assert line.details.startswith("http1.codec_error")
        assert (await server.connected()).received.count(b"HTTP/1.1") == 1
        await server.connections[0].ended()


async def test_a_chunk_that_breaks_later_ends_what_the_upstream_has_begun_to_receive() -> None:
    async with backend(silent) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        upstream = await server.connected()
        await until(lambda: upstream.received.endswith(b"3\r\nabc\r\n"))
        answer = await client.request(b"zz\r\n")
        assert (answer.status, answer.header("connection")) == (400, "close")
        assert not (await upstream.read_all()).endswith(b"0\r\n\r\n")
        (line,) = await proxy.logged()
        assert (line.flags, line.received) == ("DPE", 3)


async def test_a_broken_chunk_behind_the_responses_head_cuts_the_response() -> None:
    async def answers_early(connection: Peer) -> None:
        await connection.read_until(b"abc\r\n")
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        await connection.ended()

    async with backend(answers_early) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await client.read_until(b"\r\n\r\nabc")
        await client.send(b"zz\r\n")
        assert await client.read_all() == b""
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.sent) == (200, "DPE", 3)


async def test_a_broken_chunk_behind_a_head_that_nobody_forwards_is_not_looked_at() -> None:
    async with gateway(snapshot(routes=[NOT_FOUND])) as proxy:
        client = await proxy.client()
        answer = await client.request(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + GET)
        assert (answer.status, answer.header("connection")) == (404, "close")
        assert await client.read_all() == b""
        assert [line.details for line in await proxy.logged()] == ["direct_response"]


async def test_limits_are_the_listeners() -> None:
    async with backend() as server:
        config = snapshot(server, max_request_headers_kb=1, max_headers_count=5)
        async with gateway(config) as proxy:
            for fields, status in ((b"A: 1\r\n" * 4, 200), (b"A: 1\r\n" * 5, 431), (b"A: " + b"a" * 1024, 431)):
                answer = await proxy.exchange(b"GET / HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n")
                assert answer.status == status


async def test_a_head_that_takes_longer_than_a_minute_is_answered_408(mock_clock: trio.testing.MockClock) -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n")
        await until(lambda: all(one.buffer for one in proxy.connections) and list(proxy.connections))
        mock_clock.jump(59.9)
        await client.send(b"X-Slow: 1\r\n")
        await until(lambda: all(b"X-Slow" in one.buffer for one in proxy.connections))
        mock_clock.jump(0.2)
        answer = await client.response()
        assert (answer.status, answer.body, answer.header("connection")) == (408, b"request header timeout", "close")
        (line,) = await proxy.logged()
        assert (line.status, line.flags, line.details) == (408, "-", "request_header_timeout")
        mock_clock.jump(1.1)
        assert await client.ended() == "closed"


async def test_a_head_in_time_is_served_however_slow_its_body(mock_clock: trio.testing.MockClock) -> None:
    async with backend() as server, gateway(snapshot(server, request_headers_timeout_s=1.0)) as proxy:
        client = await proxy.client()
        await client.send(POST + b"Content-Length: 2\r\n\r\na")
        upstream = await server.connected()
        await until(lambda: upstream.received.endswith(b"a"))
        mock_clock.jump(100)
        assert (await client.request(b"b")).status == 200


async def test_a_client_that_leaves_in_the_middle_of_a_head_is_logged() -> None:
    async with backend(answers(OK)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(b"GET / HT")
        client.close()
        (line,) = await proxy.logged()
        assert line[:7] == ("-", "-", "HTTP/1.1", 0, "DC", 0, 0)
        assert line.details == "downstream_remote_disconnect"


async def test_a_connection_that_says_nothing_leaves_no_trace() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await until(lambda: list(proxy.connections))
        client.close()
        await until(lambda: not list(proxy.connections))
        await proxy.logged(0)
