"""Requests that are tried again and have only so much time.

First the loop itself, with a cluster that does as it is told, on a clock that jumps; then between real sockets, before
backends that hang, reset, answer 5xx, close and come back.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
import trio.testing

from meshproxy.proxy.http.failures import (
    CONNECTION_TERMINATION,
    NO_HEALTHY_UPSTREAM,
    PER_TRY_TIMEOUT,
    RESPONSE_TIMEOUT,
    Failure,
    Kind,
)
from meshproxy.proxy.http.message import Headers, Request, Response, header
from meshproxy.proxy.upstream.cluster import Cluster
from meshproxy.proxy.upstream.deadlines import deadlines
from meshproxy.proxy.upstream.host import Host
from meshproxy.proxy.upstream.recorded_body import MAX_RECORDED, ROOM
from meshproxy.proxy.upstream.retries import retrying
from meshproxy.proxy.upstream.retry_rules import RetryLimit, RetryRules
from meshproxy.proxy.upstream.tries import TimeLimits, Tries
from meshproxy.snapshot import CircuitBreakers, Endpoint, RetryPolicy, RouteAction, Snapshot, SocketAddress
from meshproxy.telemetry.metrics import ClusterStats

from .made import made_request
from .support import (
    GET,
    OK,
    Gateway,
    Peer,
    Script,
    answers,
    backend,
    cluster,
    forward,
    gateway,
    snapshot,
    until,
    unused_address,
)

ON_5XX = RetryPolicy(("5xx",), num_retries=2)

Outcome = int | Kind | float
"""What comes of a try: a status, a failure, or nothing for so many seconds."""


class Scripted:
    """A cluster whose tries have these outcomes, the last again and again."""

    def __init__(self, *outcomes: Outcome, max_retries: int | None = None) -> None:
        self._outcomes = list(outcomes)
        self.stats = ClusterStats("c")
        self.retry_limit = RetryLimit(CircuitBreakers(max_retries=max_retries))
        self.hosts: list[Host] = []
        self.times: list[float] = []
        self.heads: list[Headers] = []
        self.active_retries: list[int] = []

    async def __call__(self, request: Request) -> Response:
        self.times.append(trio.current_time())
        self.heads.append(list(request.headers))
        self.active_retries.append(self.retry_limit.active)
        tries, given_up = request.tries, _GivenUp()
        if tries is not None:
            tries.begin_another()
            tries.connected(given_up)
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if isinstance(outcome, float):
            with given_up.scope:
                await trio.sleep(outcome)
            if given_up.scope.cancelled_caught:
                assert tries is not None
                self.stats.count(504, 0.0)
                raise tries.timed_out(self.stats)
            outcome = 200
        if tries is not None:
            tries.over()
        self.stats.count(outcome if isinstance(outcome, int) else outcome.status, 0.0)
        if isinstance(outcome, Kind):
            raise Failure(outcome)
        return Response(outcome, [(b"x-envoy-upstream-service-time", b"0")], b"")


class _GivenUp:
    """An exchange that can be given up."""

    def __init__(self) -> None:
        self.deadlines = deadlines()
        self.scope = trio.CancelScope()

    def give_up(self) -> None:
        self.scope.cancel()


async def ask(
    scripted: Scripted, policy: RetryPolicy | None = ON_5XX, request: Request | None = None, timeout_s: float = 0.0
) -> tuple[int | str, str]:
    """The status or the failure's details, and the flags."""
    request = request or made_request()
    request.retry_rules = RetryRules(policy, count_attempts=True) if policy else None
    per_try_s = policy.per_try_timeout_s if policy else 0.0
    request.tries = Tries(TimeLimits(timeout_s, per_try_s)) if timeout_s or per_try_s else None
    try:
        response = await retrying(cast(Cluster, scripted), lambda: 0.5)(request)
    except Failure as failure:
        failure.respond(request)
        return failure.details, request.flags
    return response.status, request.flags


def counted(stats: ClusterStats) -> dict[str, int]:
    names = ("retries", "retry_success", "retry_limit_exceeded", "retry_overflow", "timeouts", "per_try_timeouts")
    return {name: getattr(stats, name) for name in names if getattr(stats, name)}


async def test_what_goes_well_is_not_tried_again() -> None:
    scripted = Scripted(200)

    assert await ask(scripted) == (200, "")
    assert (len(scripted.times), counted(scripted.stats)) == (1, {})


async def test_tries_follow_each_other_after_pauses(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(503, CONNECTION_TERMINATION, 200)

    assert await ask(scripted, replace(ON_5XX, base_interval_s=4.0)) == (200, "")
    start = scripted.times[0]
    assert [time - start for time in scripted.times] == [0, 2, 6]
    assert counted(scripted.stats) == {"retries": 2, "retry_success": 1}
    assert scripted.active_retries == [0, 1, 1]
    assert scripted.retry_limit.active == 0


async def test_each_try_tells_which_it_is(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(503, 503, 200)

    await ask(scripted)

    assert [header(one, b"x-envoy-attempt-count") for one in scripted.heads] == [None, b"2", b"3"]


async def test_after_as_many_tries_as_allowed_the_last_outcome_counts(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(503, 500, 502)

    assert await ask(scripted) == (502, "URX")
    assert counted(scripted.stats) == {"retries": 2, "retry_limit_exceeded": 1}
    assert (scripted.stats.responses[5], scripted.stats.retried[5]) == (1, 2)


async def test_a_failure_tells_that_it_was_not_the_first(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(CONNECTION_TERMINATION)
    request = made_request()
    request.retry_rules = RetryRules(ON_5XX)

    with pytest.raises(Failure) as caught:
        await retrying(cast(Cluster, scripted), lambda: 0.0)(request)

    assert caught.value.kind.body.endswith("retried and the latest reset reason: connection termination")
    assert (request.flags, caught.value.kind.flags) == ("URX", "UC")


@pytest.mark.parametrize("outcome", [404, 200, NO_HEALTHY_UPSTREAM])
async def test_what_no_condition_is_about_ends_the_trying(
    outcome: Outcome, autojump_clock: trio.testing.MockClock
) -> None:
    scripted = Scripted(503, outcome)

    told, flags = await ask(scripted)

    expected = (outcome.details, outcome.flags) if isinstance(outcome, Kind) else (outcome, "")
    assert ((told, flags), len(scripted.times)) == (expected, 2)


async def test_a_cluster_with_enough_retries_lets_no_further_begin() -> None:
    scripted = Scripted(503, max_retries=0)

    assert await ask(scripted) == (503, "UO")
    assert counted(scripted.stats) == {"retry_overflow": 1}


async def test_retries_beyond_the_limit_are_refused_and_the_slot_comes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scripted = Scripted(503, max_retries=2)
    told: list[tuple[int | str, str]] = []

    async def one() -> None:
        told.append(await ask(scripted, replace(ON_5XX, num_retries=1, base_interval_s=9.0)))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)

    assert sorted(told) == [(503, "UO"), (503, "URX"), (503, "URX")]
    assert scripted.retry_limit.active == 0


async def test_a_slot_comes_back_from_a_request_that_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(503)

    with trio.move_on_after(1):
        await ask(scripted, replace(ON_5XX, base_interval_s=9.0))

    assert scripted.retry_limit.active == 0


async def test_what_the_client_has_heard_of_is_not_tried_again() -> None:
    scripted = Scripted(503)
    request = made_request()
    request.informed = True

    assert await ask(scripted, request=request) == (503, "")


async def test_a_response_has_to_come_in_time(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(9.0)
    start = trio.current_time()

    assert await ask(scripted, None, timeout_s=2.0) == ("response_timeout", "UT")
    assert trio.current_time() - start == 2
    assert counted(scripted.stats) == {"timeouts": 1}


async def test_the_time_is_that_of_all_tries_and_pauses(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(503, 9.0)
    start = trio.current_time()

    assert await ask(scripted, replace(ON_5XX, base_interval_s=2.0), timeout_s=3.0) == ("response_timeout", "UT")
    assert [time - start for time in scripted.times] == [0, 1]
    assert trio.current_time() - start == 3
    assert header(scripted.heads[1], b"x-envoy-expected-rq-timeout-ms") == b"2000"


async def test_the_time_may_run_out_in_a_pause(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(503)
    start = trio.current_time()

    assert await ask(scripted, replace(ON_5XX, base_interval_s=8.0), timeout_s=3.0) == ("response_timeout", "UT")
    assert (trio.current_time() - start, len(scripted.times)) == (3, 1)
    assert scripted.retry_limit.active == 0


async def test_a_try_that_takes_too_long_is_followed_by_another(autojump_clock: trio.testing.MockClock) -> None:
    scripted = Scripted(9.0, 200)
    start = trio.current_time()

    assert await ask(scripted, replace(ON_5XX, per_try_timeout_s=1.0, base_interval_s=0.0)) == (200, "")
    assert [time - start for time in scripted.times] == [0, 1]
    assert counted(scripted.stats) == {"retries": 1, "retry_success": 1, "per_try_timeouts": 1}


async def test_the_last_try_that_takes_too_long_is_told_of(autojump_clock: trio.testing.MockClock) -> None:
    policy = replace(ON_5XX, per_try_timeout_s=1.0, num_retries=1)

    assert await ask(Scripted(9.0), policy) == (PER_TRY_TIMEOUT.details, "URX,UT")


async def test_a_try_that_takes_too_long_ends_the_trying_where_no_condition_is_about_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    policy = RetryPolicy(("connect-failure",), 2, per_try_timeout_s=1.0)

    assert await ask(Scripted(9.0), policy) == (PER_TRY_TIMEOUT.details, "UT")


async def test_the_request_may_be_over_before_a_try_is(autojump_clock: trio.testing.MockClock) -> None:
    policy = replace(ON_5XX, per_try_timeout_s=2.0, base_interval_s=0.0)

    assert await ask(Scripted(9.0), policy, timeout_s=3.0) == (RESPONSE_TIMEOUT.details, "UT")


# Between real sockets.

NO = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno"
POST = b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nhost: h.test\r\ntransfer-encoding: chunked\r\n\r\n"


def routed(*addresses: Any, policy: RetryPolicy | None = ON_5XX, timeout_s: float = 0.0, **config: Any) -> Snapshot:
    """All goes to one cluster."""
    running = cluster(*addresses, **config)
    route = forward(running.name)
    assert isinstance(route.action, RouteAction)
    action = replace(route.action, retry_policy=policy, timeout_s=timeout_s)
    return snapshot(running, routes=[replace(route, action=action)])


def in_turn(*scripts: Script) -> Script:
    """Each connection has its own script, the last again and again."""
    left = list(scripts)

    async def script(connection: Peer) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(connection)

    return script


async def closes(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")


async def resets(connection: Peer) -> None:
    await connection.read_until(b"\r\n\r\n")
    connection.reset()


async def hangs(connection: Peer) -> None:
    await connection.ended()


async def answers_half(connection: Peer) -> None:
    await connection.message()
    await connection.send(b"HTTP/1.1 503 X\r\ncontent-length: 9\r\n\r\nhalf")
    await connection.ended()


async def stalls(connection: Peer) -> None:
    await connection.message()
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
    await connection.ended()


async def closes_in_the_body(connection: Peer) -> None:
    await connection.message()
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")


def only_stats(proxy: Gateway) -> ClusterStats:
    [one] = proxy.worker.clusters.values()
    return one.stats


@pytest.mark.parametrize(
    "data", [GET, POST, CHUNKED_HEAD + b"5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n"], ids=["GET", "POST", "chunked"]
)
@pytest.mark.parametrize(
    "bad", [answers(NO, OK), closes, resets, answers_half], ids=["503", "closes", "resets", "half"]
)
async def test_a_backend_that_fails_once_is_asked_once_more(bad: Script, data: bytes) -> None:
    async with backend(in_turn(bad, answers(OK))) as server, gateway(routed(server)) as proxy:
        answer = await proxy.exchange(data)
        [line] = await proxy.logged()
        told = only_stats(proxy)

    assert (answer.status, line.flags) == (200, "-")
    assert (told.retries, told.retry_success) == (1, 1)


async def test_a_body_is_sent_again_as_it_was() -> None:
    async with backend(in_turn(closes, answers(OK))) as server, gateway(routed(server)) as proxy:
        client = await proxy.client()
        await client.send(CHUNKED_HEAD + b"3\r\nabc\r\n")
        await until(lambda: server.connections and server.received[0])
        await client.send(b"3\r\ndef\r\n0\r\nx-t: 1\r\n\r\n")
        answer = await client.response()

    assert answer.status == 200
    head, _, body = server.received[1].partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"3\r\nabc\r\n3\r\ndef\r\n0\r\nx-t: 1\r\n\r\n"


async def test_the_rest_of_a_body_follows_what_is_sent_again() -> None:
    async with backend(in_turn(closes, answers(OK))) as server, gateway(routed(server)) as proxy:
        client = await proxy.client()
        await client.send(CHUNKED_HEAD + b"3\r\nabc\r\n")
        await until(lambda: len(server.connections) == 2 and server.received[1].endswith(b"abc\r\n"))
        await client.send(b"3\r\ndef\r\n0\r\n\r\n")

        assert (await client.response()).status == 200


@pytest.mark.parametrize(("size", "tries"), [(MAX_RECORDED, 2), (MAX_RECORDED + 1, 1)])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_too_large_to_be_kept_is_sent_once(size: int, tries: int, chunked: bool) -> None:
    policy = replace(ON_5XX, num_retries=1)
    data = CHUNKED_HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size))
    if not chunked:
        data = b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: %d\r\n\r\n%b" % (size, bytes(size))
    async with backend(answers(NO)) as server, gateway(routed(server, policy=policy)) as proxy:
        answer = await proxy.exchange(data)

    assert answer.status == 503
    assert sum(one.count(b"POST /") for one in server.received) == tries


async def test_bodies_of_all_requests_together_are_kept_as_far_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ROOM, "left", 8)
    head = b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: %d\r\n\r\n"
    tries = []
    for size in (5, 9, 8):
        async with backend(answers(NO)) as server, gateway(routed(server, policy=ON_5XX)) as proxy:
            client = await proxy.client()
            await client.send(head % size)
            await server.connected()
            assert (await client.request(bytes(size))).status == 503
        tries.append(sum(one.count(b"POST /") for one in server.received))

    assert tries == [3, 1, 3]
    assert ROOM.left == 8


async def test_what_others_keep_leaves_no_room_until_they_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ROOM, "left", 8)
    head = b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: 5\r\n\r\n"
    async with backend(hangs) as server, gateway(routed(server)) as proxy:
        client = await proxy.client()
        await client.send(head + b"he")
        await until(lambda: ROOM.left == 3)
        client.close()
        await proxy.settled()

    assert ROOM.left == 8


async def test_a_retry_goes_to_another_host() -> None:
    policy = RetryPolicy(("connect-failure",), 1, previous_hosts=True, host_selection_max_attempts=5)
    async with backend() as server:
        config = routed(unused_address(), server, policy=policy, lb_policy="ROUND_ROBIN")
        async with gateway(config) as proxy:
            client = await proxy.client()
            statuses = [(await client.request(GET)).status for _ in range(10)]

    assert statuses == [200] * 10


class Obstinate:
    """A balancer that has one host for all, and counts how often it is asked."""

    def __init__(self, host: Host) -> None:
        self.asked = 0
        self._host = host

    def pick(self, request: Request, attempt: int = 0) -> Host:
        self.asked += 1
        return self._host


async def test_for_a_retry_another_host_is_looked_for_as_often_as_the_policy_says() -> None:
    config = cluster(unused_address())
    under_test = Cluster(config, ClusterStats("c"), lambda: 0.0)
    under_test._balancer = balancer = Obstinate(under_test.hosts[0])
    request = made_request()
    policy = RetryPolicy(("connect-failure",), 1, previous_hosts=True, host_selection_max_attempts=5)
    request.retry_rules, request.tries = RetryRules(policy), Tries()
    request.tries.hosts = (under_test.hosts[0],)

    with pytest.raises(Failure):
        await under_test(request)

    assert balancer.asked == 1 + 5


async def test_a_retry_may_go_to_another_priority() -> None:
    policy = RetryPolicy(("connect-failure",), 2, previous_priorities=True)
    async with backend() as server:
        config = routed(policy=policy)
        assert isinstance(server.address, SocketAddress)
        endpoints = (Endpoint(unused_address()), Endpoint(server.address, priority=1))
        config = replace(config, clusters=(replace(config.clusters[0], endpoints=endpoints),))
        async with gateway(config) as proxy:
            answer = await proxy.exchange(GET)
            told = only_stats(proxy)

    assert answer.status == 200
    assert told.retries == 2


async def test_each_priority_has_two_tries_before_the_next_has_its_turn_round_and_round() -> None:
    policy = RetryPolicy(("connect-failure",), 7, previous_priorities=True)
    config = routed(policy=policy)
    refused = unused_address()
    endpoints = (Endpoint(refused), Endpoint(replace(refused, host="127.0.0.2"), priority=1))
    config = replace(config, clusters=(replace(config.clusters[0], endpoints=endpoints),))
    async with gateway(config) as proxy:
        await proxy.exchange(GET)
        tries = [host.requests for host in proxy.hosts]

    assert tries == [4, 4]


async def test_a_response_that_breaks_off_is_not_tried_again() -> None:
    async with backend(closes_in_the_body) as server, gateway(routed(server)) as proxy:
        answer = await proxy.exchange(GET)
        [line] = await proxy.logged()

    assert (answer.status, answer.whole, line.flags, len(server.connections)) == (200, False, "UPE", 1)


async def test_a_hanging_backend_is_given_up(mock_clock: trio.testing.MockClock) -> None:
    async with backend(hangs) as server, gateway(routed(server, policy=None, timeout_s=3.0)) as proxy:
        client = await proxy.client()
        await client.send(POST)
        await until(lambda: server.connections and server.received[0].endswith(b"hello"))
        mock_clock.jump(2.9)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.2)
        answer = await client.response()
        [line] = await proxy.logged()
        told = only_stats(proxy)

    assert (answer.status, answer.body) == (504, b"upstream request timeout")
    assert (line.flags, line.details, told.timeouts) == ("UT", "response_timeout", 1)


async def test_a_try_whose_time_is_over_on_a_connection_that_was_used_before_is_over(
    mock_clock: trio.testing.MockClock,
) -> None:
    async def answers_once(connection: Peer) -> None:
        await connection.message()
        await connection.send(OK)
        await connection.ended()

    async with backend(answers_once) as server, gateway(routed(server, policy=None, timeout_s=3.0)) as proxy:
        client = await proxy.client()
        assert (await client.request(GET)).status == 200
        await client.send(GET)
        await until(lambda: server.received[0].count(b"GET") == 2)
        mock_clock.jump(3.1)
        answer = await client.response()

    assert answer.status == 504
    assert len(server.connections) == 1


async def test_time_is_counted_from_the_end_of_the_request(mock_clock: trio.testing.MockClock) -> None:
    async with backend(hangs) as server, gateway(routed(server, policy=None, timeout_s=3.0)) as proxy:
        client = await proxy.client()
        await client.send(CHUNKED_HEAD + b"3\r\nabc\r\n")
        await until(lambda: server.connections and b"abc" in server.received[0])
        mock_clock.jump(10)
        await client.send(b"0\r\n\r\n")
        await until(lambda: server.received[0].endswith(b"0\r\n\r\n"))
        await trio.testing.wait_all_tasks_blocked()
        assert not proxy.log_lines
        mock_clock.jump(3.1)

        assert (await client.response()).status == 504


async def test_a_body_that_stalls_is_broken_off_in_time(mock_clock: trio.testing.MockClock) -> None:
    async with backend(stalls) as server, gateway(routed(server, timeout_s=3.0)) as proxy:
        client = await proxy.client()
        await client.send(GET)
        await client.read_until(b"half")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(3.1)
        mock_clock.autojump_threshold = 0.01  # for the connection that lingers
        assert await client.ended() == "closed"
        [line] = await proxy.logged()

    assert (line.status, line.flags, line.details) == (200, "UT", "response_timeout")


@pytest.mark.parametrize(
    "head", [b"content-length: 99999999", b"transfer-encoding: chunked"], ids=["length", "chunked"]
)
async def test_a_client_that_does_not_read_holds_the_upstream_no_longer_than_the_timeout(
    head: bytes, mock_clock: trio.testing.MockClock
) -> None:
    async def pours(connection: Peer) -> None:
        await connection.message()
        await connection.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % head)
        while True:
            await connection.send(b"1000\r\n%b\r\n" % bytes(0x1000))

    async with backend(pours) as server, gateway(routed(server, timeout_s=3.0)) as proxy:
        client = await proxy.client(receive_buffer=4096)
        await client.send(GET)
        await server.connected()
        await trio.testing.wait_all_tasks_blocked(0.05)
        [running] = proxy.worker.clusters.values()
        [host] = running.hosts
        assert host.active == 1
        mock_clock.jump(3.1)
        await until(lambda: host.active == 0)
        client.reset()
        [line] = await proxy.logged()

    assert (line.status, line.flags) == (200, "UT")


@pytest.mark.parametrize(("timeout_s", "per_try_timeout_s"), [(3.0, 0.0), (0.0, 3.0)], ids=["timeout", "per try"])
@pytest.mark.parametrize("data", [GET, CHUNKED_HEAD + b"0\r\n\r\n"], ids=["GET", "streamed"])
async def test_behind_a_part_of_an_interim_response_no_other_is_sent(
    data: bytes, timeout_s: float, per_try_timeout_s: float, mock_clock: trio.testing.MockClock
) -> None:
    async def hints(connection: Peer) -> None:
        await connection.read_until(b"\r\n\r\n")
        with suppress(OSError):
            while True:
                await connection.send(b"HTTP/1.1 103 Early Hints\r\nlink: %b\r\n\r\n" % (b"x" * 60_000))

    policy = RetryPolicy(("5xx",), num_retries=2, per_try_timeout_s=per_try_timeout_s)
    async with backend(hints) as server, gateway(routed(server, policy=policy, timeout_s=timeout_s)) as proxy:
        client = await proxy.client(receive_buffer=4096)
        await client.send(data)
        await server.connected()
        await trio.testing.wait_all_tasks_blocked(0.05)
        mock_clock.jump(3.1)
        await until(lambda: not any(host.active for host in proxy.hosts))
        [line] = await proxy.logged()
        assert await client.ended() == "reset"

    assert b"HTTP/1.1 504" not in client.received
    assert (line.status, line.flags) == (504, "UT")
