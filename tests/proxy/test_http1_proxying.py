"""Requests and responses on their way through, byte for byte (RFC 9112; Envoy 1.40, measured)."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from meshproxy.snapshot import DirectResponseAction, Route, RouteMatch

from .support import (
    GET,
    OK,
    Peer,
    answers,
    answers_and_closes,
    backend,
    gateway,
    snapshot,
    stable,
)

ADDED_TO_REQUEST = (
    b"x-forwarded-for: 127.0.0.1\r\n"
    b"x-forwarded-proto: http\r\n"
    b"x-envoy-external-address: 127.0.0.1\r\n"
    b"x-request-id: <UUID>\r\n"
)


def response(fields: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + body


async def test_a_request_arrives_with_host_first_names_in_lower_case_and_the_proxys_fields_last() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.request(
            b"GET /x?y=1 HTTP/1.1\r\nUser-Agent: t/1\r\nHost: h.example\r\nX-MiXed:   A \r\nX-Empty:\r\n\r\n"
        )
        assert stable(server.received[0]) == (
            b"GET /x?y=1 HTTP/1.1\r\nhost: h.example\r\nuser-agent: t/1\r\nx-mixed: A\r\nx-empty: \r\n"
            + ADDED_TO_REQUEST
            + b"\r\n"
        )


async def test_a_response_keeps_its_fields_in_order_and_its_date_and_gets_our_server_and_reason() -> None:
    upstream = (
        b"HTTP/1.1 404 Nobody Here\r\nServer: apache\r\nDate: long ago\r\nX-Dup: 1\r\nX-Other: z\r\nX-Dup: 2\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok"
    )
    async with backend(answers(upstream)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.request(GET)
        assert stable(client.received) == (
            b"HTTP/1.1 404 Not Found\r\nserver: meshproxy\r\ndate: long ago\r\nx-dup: 1\r\nx-other: z\r\nx-dup: 2\r\n"
            b"set-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 2\r\nx-envoy-upstream-service-time: <MS>\r\n\r\nok"
        )


async def test_missing_date_and_server_are_added_behind_the_service_time() -> None:
    async with backend() as server, gateway(snapshot(server, server_name="istio-envoy")) as proxy:
        client = await proxy.client()
        await client.request(GET)
        assert stable(client.received) == response(
            b"content-length: 2\r\nx-envoy-upstream-service-time: <MS>\r\ndate: <DATE>\r\nserver: istio-envoy\r\n",
            b"ok",
        )


async def test_the_upstreams_own_service_time_is_replaced_in_place() -> None:
    upstream = response(b"x-envoy-upstream-service-time: 99999\r\nx-envoy-other: kept\r\ncontent-length: 0\r\n")
    async with backend(answers(upstream)) as server, gateway(snapshot(server)) as proxy:
        answer = await proxy.exchange(GET)
        assert answer.headers[0][0] == "x-envoy-upstream-service-time"
        assert int(answer.headers[0][1]) < 5000
        assert answer.header("x-envoy-other") == "kept"


async def test_a_kept_connection_serves_request_after_request_on_one_upstream_connection() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        for _ in range(3):
            answer = await client.request(GET)
            assert (answer.status, answer.body, answer.header("connection")) == (200, b"ok", None)
        assert len(server.connections) == 1
        assert [line.status for line in await proxy.logged(3)] == [200, 200, 200]


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    script = answers(*(response(b"content-length: 1\r\n", b"%d" % number) for number in range(3)))
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % number for number in range(3)))
        assert [(await client.response()).body for _ in range(3)] == [b"0", b"1", b"2"]
        assert [line.path for line in await proxy.logged(3)] == ["/0", "/1", "/2"]


async def test_a_client_that_pipelines_does_not_keep_others_waiting() -> None:
    served = [0]

    async def other() -> None:
        while True:
            served.append(len(running.log_lines))
            await trio.lowlevel.checkpoint()

    async with backend() as server, gateway(snapshot(server, routes=[NOT_FOUND])) as running:
        client = await running.client()
        await client.send(GET * 20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(20):
                assert (await client.response()).status == 404
            nursery.cancel_scope.cancel()
    # Of two tasks that take turns, one can have two between the same two of the other's.
    assert max(after - before for before, after in pairwise(served)) <= 2


async def test_a_request_pipelined_behind_a_body_is_served_after_it() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(b"POST /1 HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello" + GET)
        assert [(await client.response()).status for _ in range(2)] == [200, 200]
        assert [line.received for line in await proxy.logged(2)] == [5, 0]


async def test_a_chunked_request_is_passed_on_chunked_with_its_trailers() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        answer = await client.request(
            b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
            b"3;ext=1\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n"
        )
        assert answer.status == 200
        assert stable(server.received[0]) == (
            b"POST /p HTTP/1.1\r\nhost: h\r\ntrailer: X-Sum\r\n"
            + ADDED_TO_REQUEST
            + b"transfer-encoding: chunked\r\n\r\n7\r\nabcdefg\r\n0\r\nx-sum: 7\r\n\r\n"
        )
        assert (await proxy.logged())[0].received == 7


async def test_a_chunked_response_is_passed_on_chunked_with_its_trailers() -> None:
    upstream = response(b"transfer-encoding: chunked\r\nx-a: 1\r\n", b"3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n")
    async with backend(answers(upstream)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        answer = await client.request(GET)
        assert (answer.body, answer.trailers) == (b"abc", [("x-sum", "3")])
        assert answer.headers[-1] == ("transfer-encoding", "chunked")
        assert (await client.request(GET)).body == b"abc"
        assert len(server.connections) == 1
        assert [line.sent for line in await proxy.logged(2)] == [3, 3]


async def test_expect_100_continue_is_the_upstreams_to_answer() -> None:
    async def script(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 100 Whatever\r\nX-I: 1\r\n\r\n")
        assert await connection.read(5) == b"hello"
        await connection.send(OK)

    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        interim = await client.request(
            b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert interim.head == b"HTTP/1.1 100 Continue\r\nx-i: 1\r\n\r\n"
        answer = await client.request(b"hello")
        assert (answer.status, answer.header("connection")) == (200, None)
        assert b"content-length: 5\r\nexpect: 100-continue\r\n" in server.received[0]


async def test_interim_responses_are_passed_on_without_our_fields() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with backend(answers(hints + hints + OK)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        for _ in range(2):
            interim = await client.response()
            assert (interim.status, interim.headers) == (103, [("link", "</a>")])
        assert (await client.response()).body == b"ok"
        await proxy.logged(1)


async def test_http_1_0_gets_no_interim_responses() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with backend(answers(hints + OK)) as server, gateway(snapshot(server)) as proxy:
        answer = await proxy.exchange(b"GET / HTTP/1.0\r\nhost: h\r\n\r\n")
        assert (answer.version, answer.status, answer.body) == ("HTTP/1.0", 200, b"ok")


async def test_a_head_response_has_the_length_and_no_body() -> None:
    upstream = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
    async with backend(answers(upstream)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        for _ in range(2):
            answer = await client.request(b"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n", "HEAD")
            assert (answer.status, answer.header("content-length")) == (200, "1000")
        assert len(server.connections) == 1
        assert [line.sent for line in await proxy.logged(2)] == [0, 0]


@pytest.mark.parametrize(
    "upstream",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    ],
    ids=["204", "304", "304 with a length"],
)
async def test_a_response_that_has_no_body_ends_with_its_head(upstream: bytes) -> None:
    async with backend(answers(upstream)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        await client.send(GET + GET)
        for _ in range(2):
            answer = await client.response()
            assert answer.status == int(upstream[9:12])
            assert answer.header("transfer-encoding") is None
        assert len(server.connections) == 1


CLOSE_DELIMITED = b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nd\r\nuntil the end\r\n0\r\n\r\n"


async def test_a_response_that_ends_with_the_connection_becomes_chunked() -> None:
    async with backend(answers_and_closes(CLOSE_DELIMITED)) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        for _ in range(2):
            answer = await client.request(GET)
            assert (answer.body, answer.whole, answer.header("connection")) == (b"until the end", True, None)
            assert answer.header("transfer-encoding") == "chunked"
        assert len(server.connections) == 2


@pytest.mark.parametrize("upstream", [CLOSE_DELIMITED, CHUNKED])
async def test_http_1_0_gets_a_body_of_unknown_length_up_to_the_close(upstream: bytes) -> None:
    async with backend(answers_and_closes(upstream)) as server, gateway(snapshot(server)) as proxy:
        answer = await proxy.exchange(b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
        assert (answer.version, answer.body, answer.end) == ("HTTP/1.0", b"until the end", "closed")
        assert answer.headers[-1] == ("connection", "close")
        assert answer.header("transfer-encoding") is None


async def test_http_1_0_is_kept_alive_when_it_asks() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        for _ in range(2):
            answer = await client.request(b"GET / HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n")
            assert (answer.version, answer.body) == ("HTTP/1.0", b"ok")
            assert answer.headers[-1] == ("connection", "keep-alive")
        answer = await client.request(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        assert answer.headers[-1] == ("connection", "close")
        assert await client.ended() == "closed"
        assert all(received.startswith(b"GET / HTTP/1.1\r\n") for received in server.received)
        assert (await proxy.logged(3))[0].protocol == "HTTP/1.0"


async def test_a_client_that_asks_for_it_is_closed_behind_its_response() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        answer = await client.request(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: x, CLOSE\r\n\r\n" + GET)
        assert answer.headers[-1] == ("connection", "close")
        assert await client.read_all() == b""
        await proxy.logged(1)


async def test_fields_of_the_connection_are_not_passed_on() -> None:
    upstream = response(
        b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\ncontent-length: 0\r\n"
    )
    async with backend(answers(upstream)) as server, gateway(snapshot(server)) as proxy:
        answer = await proxy.exchange(
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Mine\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n"
            b"X-Mine: 1\r\nTE: gzip\r\nUpgrade: websocket\r\nProxy-Authorization: kept\r\n\r\n"
        )
        assert stable(server.received[0]) == (
            b"GET / HTTP/1.1\r\nhost: h\r\nproxy-authorization: kept\r\n" + ADDED_TO_REQUEST + b"\r\n"
        )
        names = [name for name, _ in answer.headers]
        assert names == ["content-length", "x-envoy-upstream-service-time", "date", "server"]


async def test_te_trailers_is_passed_on_alone() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        await proxy.exchange(b"GET / HTTP/1.1\r\nHost: h\r\nTE: gzip,trailers\r\n\r\n")
        assert b"\r\nte: trailers\r\n" in server.received[0]


@pytest.mark.parametrize(("method", "announced"), [("POST", True), ("PUT", True), ("DELETE", False), ("GET", False)])
async def test_a_missing_body_is_announced_where_one_could_have_been(method: str, announced: bool) -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        await proxy.exchange(f"{method} / HTTP/1.1\r\nhost: h\r\n\r\n".encode())
        assert server.received[0].endswith(b"content-length: 0\r\n\r\n") is announced


async def test_a_target_in_absolute_form_names_the_host() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        await proxy.exchange(b"GET http://real.test:81/p?q HTTP/1.1\r\nHost: other.test\r\n\r\n")
        assert server.received[0].startswith(b"GET /p?q HTTP/1.1\r\nhost: real.test:81\r\n")
        assert (await proxy.logged())[0].authority == "real.test:81"


async def test_what_a_client_says_of_its_origin_is_appended_to_or_replaced_in_place() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        await proxy.exchange(
            b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n"
            b"X-Request-Id: mine\r\nX-Envoy-External-Address: 8.8.8.8\r\nX-Last: 1\r\n\r\n"
        )
        assert stable(server.received[0]) == (
            b"GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 1.2.3.4, 10.0.0.1,127.0.0.1\r\nx-forwarded-proto: http\r\n"
            b"x-request-id: <UUID>\r\nx-envoy-external-address: 127.0.0.1\r\nx-last: 1\r\n\r\n"
        )
        assert (await proxy.logged())[0].forwarded_for == "1.2.3.4, 10.0.0.1,127.0.0.1"


@pytest.mark.parametrize(
    "name",
    ["x-envoy-internal", "x-envoy-original-path", "x-envoy-upstream-rq-timeout-ms", "x-forwarded-client-cert"],
)
async def test_headers_that_only_the_mesh_may_set_are_taken_from_clients(name: str) -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        await proxy.exchange(f"GET / HTTP/1.1\r\nHost: h\r\n{name}: forged\r\nX-Envoy-Foo: kept\r\n\r\n".encode())
        assert b"forged" not in server.received[0]
        assert b"x-envoy-foo: kept\r\n" in server.received[0]


async def test_the_access_log_tells_all_of_a_request() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        await proxy.exchange(
            b"POST /a/../p?q=1 HTTP/1.1\r\nHost: h.test:8\r\nUser-Agent: t/1\r\nContent-Length: 3\r\n\r\nabc"
        )
        (line,) = await proxy.logged()
        request_id = server.received[0].partition(b"x-request-id: ")[2][:36].decode()
        assert line._replace(duration=0, service_time="0") == (
            *("POST", "/p?q=1", "HTTP/1.1", 200, "-", 3, 2, 0, "0"),
            *("127.0.0.1", "t/1", request_id, "h.test:8", str(server.address), "via_upstream"),
        )


async def test_a_head_may_come_byte_by_byte() -> None:
    async with backend() as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        for byte in b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n":
            await client.send(bytes([byte]))
        assert (await client.response()).status == 200
        assert server.received[0].startswith(b"GET /slow HTTP/1.1\r\nhost: h\r\n")


NOT_FOUND = Route("", RouteMatch(), DirectResponseAction(404))
EXPECTING = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


async def test_a_local_reply_to_a_complete_request_keeps_the_connection() -> None:
    async with gateway(snapshot(routes=[NOT_FOUND])) as proxy:
        client = await proxy.client()
        for request in (GET, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", GET):
            answer = await client.request(request)
            assert (answer.status, answer.header("connection")) == (404, None)
            assert answer.headers[-1] == ("content-length", "0")


@pytest.mark.parametrize(
    "request_",
    [
        EXPECTING,
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n",
    ],
    ids=["100-continue", "incomplete", "chunked"],
)
async def test_a_local_reply_to_a_request_that_was_not_read_closes_the_connection(request_: bytes) -> None:
    async with gateway(snapshot(routes=[NOT_FOUND])) as proxy:
        client = await proxy.client()
        answer = await client.request(request_)
        assert (answer.status, answer.header("connection")) == (404, "close")
        await client.send(b"the rest" + GET)
        assert await client.read_all() == b""
        assert client.end == "closed"
        await proxy.logged(1)
