"""The queue for a host's connections: who gets which, who waits, who is refused. No sockets here.

The connections are opened by hand: `Attempts` holds what a host has begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.proxy.http.failures import CONNECTION_FAILURE, CONNECTION_TIMEOUT, OVERFLOW, Failure, Kind
from meshproxy.proxy.http.http1_client import Http1ClientConnection
from meshproxy.proxy.readiness import Waiter
from meshproxy.proxy.transport import Transport
from meshproxy.proxy.upstream import host as host_module
from meshproxy.proxy.upstream.bounded_host import BoundedHost
from meshproxy.proxy.upstream.circuit_breakers import Breaker, CircuitBreakers
from meshproxy.snapshot import CircuitBreakers as Limits
from meshproxy.snapshot import SocketAddress

TIMEOUT_S = 5.0


class FakeTransport:
    """Open until it is closed, and silent."""

    def __init__(self) -> None:
        self.closed = False
        self.waiter = Waiter(-1)

    def peek(self) -> bool | None:
        return False if self.waiter.ready else None

    def close(self) -> None:
        self.closed = True


class Attempts:
    """Connections that are being opened, the oldest first."""

    def __init__(self) -> None:
        self._begun: list[tuple[trio.Event, list[OSError]]] = []

    def __len__(self) -> int:
        return len(self._begun)

    async def connect(self, *_: object) -> Transport:
        begun: tuple[trio.Event, list[OSError]] = (trio.Event(), [])
        self._begun.append(begun)
        try:
            await begun[0].wait()
        finally:
            self._begun = [one for one in self._begun if one is not begun]
        if begun[1]:
            raise begun[1][0]
        return cast(Transport, FakeTransport())

    async def succeed(self) -> None:
        """The oldest comes about."""
        self._begun[0][0].set()
        await trio.testing.wait_all_tasks_blocked()

    async def fail(self) -> None:
        """The oldest is refused."""
        done, errors = self._begun[0]
        errors.append(ConnectionRefusedError(111, "refused"))
        done.set()
        await trio.testing.wait_all_tasks_blocked()


class Requests:
    """Requests to hosts, by the numbers that the test gives them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scopes: dict[int, trio.CancelScope] = {}
        self.active: dict[int, tuple[BoundedHost, Http1ClientConnection]] = {}
        """Those that have their connections, in the order in which they got them."""
        self.failed: dict[int, Kind] = {}

    async def send(self, number: int, host: BoundedHost) -> None:
        """As a cluster does."""
        scope = self._scopes[number] = trio.CancelScope()
        self._nursery.start_soon(self._send, number, host, scope)
        await trio.testing.wait_all_tasks_blocked()

    async def _send(self, number: int, host: BoundedHost, scope: trio.CancelScope) -> None:
        with scope:
            try:
                connection = host.take_idle(replayable=True)
                host.begin()
                if connection is None:
                    connection = await host.connect(TIMEOUT_S)
            except Failure as failure:
                self.failed[number] = failure.kind
            else:
                connection.requests += 1
                self.active[number] = (host, connection)

    async def answer(self, number: int, reusable: bool = True) -> None:
        """It is over, and its connection can or cannot be used again."""
        host, connection = self.active.pop(number)
        host._release(connection, reusable)
        await trio.testing.wait_all_tasks_blocked()

    async def cancel(self, number: int) -> None:
        self._scopes[number].cancel()
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    made = Attempts()
    monkeypatch.setattr(host_module, "connect", made.connect)
    return made


@pytest.fixture
def requests(nursery: trio.Nursery) -> Requests:
    return Requests(nursery)


def breakers(connections: int | None = None, pending: int | None = None, active: int | None = None) -> CircuitBreakers:
    return CircuitBreakers(Limits(connections, pending, active))


def host_of(limits: CircuitBreakers, port: int = 80) -> BoundedHost:
    return BoundedHost(SocketAddress("192.0.2.1", port), limits)


def counts(limits: CircuitBreakers) -> tuple[int, int, int]:
    """Connections, pending requests, active requests."""
    return limits.connections.active, limits.pending.active, limits.requests.active


@pytest.mark.parametrize("limit", [0, 1, 2, 50])
def test_a_breaker_lets_as_many_pass_as_it_says(limit: int) -> None:
    breaker = Breaker(limit)

    assert [breaker.take() for _ in range(limit + 1)] == [True] * limit + [False]
    assert (breaker.open, breaker.overflows) == (True, 1)
    if limit:
        breaker.give_back()
        assert (breaker.open, breaker.take()) == (False, True)


def test_without_a_limit_a_breaker_never_opens() -> None:
    breaker = Breaker(None)

    assert all(breaker.take() for _ in range(5000))
    assert not breaker.open


async def test_a_request_waits_until_its_connection_has_come_about(attempts: Attempts, requests: Requests) -> None:
    limits = breakers(connections=2)
    host = host_of(limits)

    await requests.send(1, host)
    assert (counts(limits), len(attempts)) == ((1, 1, 0), 1)
    assert repr(host) == ("<Host 192.0.2.1:80: 1 active, 0 of 0 connections idle, 1 waiting, 1 connecting>")

    await attempts.succeed()
    assert (counts(limits), list(requests.active)) == ((1, 0, 1), [1])


async def test_no_more_connections_are_opened_than_there_may_be(attempts: Attempts, requests: Requests) -> None:
    limits = breakers(connections=2)
    host = host_of(limits)

    for number in range(5):
        await requests.send(number, host)

    assert (counts(limits), len(attempts), limits.connections.overflows) == ((2, 5, 0), 2, 3)


async def test_who_has_waited_longest_takes_what_is_given_back(attempts: Attempts, requests: Requests) -> None:
    host = host_of(breakers(connections=1))
    for number in (1, 2, 3):
        await requests.send(number, host)
    await attempts.succeed()

    await requests.answer(1)
    assert list(requests.active) == [2]
    await requests.answer(2)
    assert list(requests.active) == [3]
    assert host.connections_total == 1


async def test_a_connection_serves_whoever_has_waited_longest_when_it_comes_about(
    attempts: Attempts, requests: Requests
) -> None:
    host = host_of(breakers(connections=2))
    await requests.send(1, host)
    await attempts.succeed()
    await requests.send(2, host)
    await requests.send(3, host)

    await requests.answer(1)  # to 2, who no longer needs what is being opened
    assert list(requests.active) == [2]
    await attempts.succeed()
    assert list(requests.active) == [2, 3]


async def test_when_a_connection_is_closed_the_next_in_the_queue_opens_another(
    attempts: Attempts, requests: Requests
) -> None:
    limits = breakers(connections=1)
    host = host_of(limits)
    for number in (1, 2, 3):
        await requests.send(number, host)
    await attempts.succeed()

    await requests.answer(1, reusable=False)
    assert (list(requests.active), len(attempts), counts(limits)) == ([], 1, (1, 2, 0))
    await attempts.succeed()
    assert list(requests.active) == [2]


async def test_too_many_who_wait_are_refused(attempts: Attempts, requests: Requests) -> None:
    limits = breakers(connections=1, pending=2)
    host = host_of(limits)
    await requests.send(0, host)
    await attempts.succeed()

    for number in (1, 2, 3):
        await requests.send(number, host)

    assert requests.failed == {3: OVERFLOW}
    assert (counts(limits), limits.pending.overflows) == ((1, 2, 1), 1)


async def test_who_waits_for_a_new_connection_is_pending_too(attempts: Attempts, requests: Requests) -> None:
    host = host_of(breakers(pending=1))

    for number in (1, 2):
        await requests.send(number, host)
    assert requests.failed == {2: OVERFLOW}

    await attempts.succeed()
    await requests.send(3, host)
    assert requests.failed == {2: OVERFLOW}


async def test_with_none_to_be_pending_only_idle_connections_serve(attempts: Attempts, requests: Requests) -> None:
    host = host_of(breakers(pending=0))

    await requests.send(1, host)

    assert (requests.failed, len(attempts)) == ({1: OVERFLOW}, 0)


async def test_who_is_beyond_the_active_requests_is_refused_once_there_is_a_connection(
    attempts: Attempts, requests: Requests
) -> None:
    limits = breakers(active=1)
    host = host_of(limits)
    await requests.send(1, host)
    await attempts.succeed()

    await requests.send(2, host)
    assert requests.failed == {}
    await attempts.succeed()
    assert requests.failed == {2: OVERFLOW}

    await requests.send(3, host)  # at once: there is an idle connection now
    assert requests.failed == {2: OVERFLOW, 3: OVERFLOW}
    assert (counts(limits), len(host.idle), limits.requests.overflows) == ((2, 0, 1), 1, 2)


async def test_who_waits_for_a_connection_may_be_active_when_it_is_given_back(
    attempts: Attempts, requests: Requests
) -> None:
    host = host_of(breakers(connections=1, active=1))
    for number in (1, 2):
        await requests.send(number, host)
    await attempts.succeed()

    await requests.answer(1)

    assert (list(requests.active), requests.failed) == ([2], {})


async def test_who_leaves_the_queue_is_pending_no_more(attempts: Attempts, requests: Requests) -> None:
    limits = breakers(connections=1, pending=2)
    host = host_of(limits)
    await requests.send(1, host)
    await attempts.succeed()
    for number in (2, 3):
        await requests.send(number, host)

    await requests.cancel(2)
    assert counts(limits) == (1, 1, 1)
    await requests.answer(1)
    assert list(requests.active) == [3]


async def test_a_connection_for_somebody_who_left_is_kept(attempts: Attempts, requests: Requests) -> None:
    limits = breakers(connections=1)
    host = host_of(limits)
    await requests.send(1, host)
    await requests.cancel(1)

    await attempts.succeed()

    assert (counts(limits), len(host.idle)) == ((1, 0, 0), 1)


async def test_when_a_connection_is_refused_all_who_wait_for_the_host_fail(
    attempts: Attempts, requests: Requests
) -> None:
    limits = breakers(connections=2)
    host, other = host_of(limits, 1), host_of(limits, 2)
    await requests.send(1, host)
    await attempts.succeed()
    for number in (2, 3):
        await requests.send(number, host)
    await requests.send(4, other)

    await attempts.fail()

    assert requests.failed == {2: CONNECTION_FAILURE, 3: CONNECTION_FAILURE}
    assert (list(requests.active), host.connect_failures) == ([1], 1)
    await attempts.succeed()
    assert list(requests.active) == [1, 4]


async def test_who_waits_fails_when_the_connection_takes_too_long(
    attempts: Attempts, requests: Requests, autojump_clock: trio.testing.MockClock
) -> None:
    limits = breakers(connections=1)
    await requests.send(1, host_of(limits))

    await trio.sleep(TIMEOUT_S + 0.001)
    await trio.testing.wait_all_tasks_blocked()

    assert (requests.failed, counts(limits)) == ({1: CONNECTION_TIMEOUT}, (0, 0, 0))


async def test_a_fault_while_connecting_fails_those_who_wait_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, requests: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(host_module, "connect", broken)
    limits = breakers(connections=1)

    await requests.send(1, host_of(limits))

    assert (requests.failed, counts(limits)) == ({1: CONNECTION_FAILURE}, (0, 0, 0))
    assert "failed to connect" in caplog.text


async def test_a_host_without_connections_may_open_one_beyond_the_limit(attempts: Attempts, requests: Requests) -> None:
    limits = breakers(connections=1)
    one, other = host_of(limits, 1), host_of(limits, 2)

    for number, host in enumerate((one, other, one, other)):
        await requests.send(number, host)

    assert (len(attempts), counts(limits)) == (2, (2, 4, 0))


async def test_a_connection_that_is_closed_lets_another_host_open_one(attempts: Attempts, requests: Requests) -> None:
    limits = breakers(connections=2)
    one, other = host_of(limits, 1), host_of(limits, 2)
    for number, host in enumerate((one, other, other)):
        await requests.send(number, host)
        if len(attempts):
            await attempts.succeed()
    assert (list(requests.active), len(attempts)) == ([0, 1], 0)

    await requests.answer(0, reusable=False)
    await attempts.succeed()

    assert list(requests.active) == [1, 2]


def test_hosts_that_are_held_up_go_on_in_their_order() -> None:
    limits, went_on = breakers(1), []

    class HeldUp:
        def __init__(self, name: str) -> None:
            self.name = name

        def open_connections(self) -> None:
            went_on.append(self.name)
            limits.connections.take()

    for name in ("first", "second"):
        limits.hold_up(cast(BoundedHost, HeldUp(name)))
    limits.go_on()
    assert went_on == ["first"]
    limits.connections.give_back()
    limits.go_on()
    assert went_on == ["first", "second"]


async def test_a_host_whose_last_connection_is_closed_opens_another_before_others_open_more(
    attempts: Attempts, requests: Requests
) -> None:
    limits = breakers(connections=2)
    one, other = host_of(limits, 1), host_of(limits, 2)
    for number, host in enumerate((one, other)):
        await requests.send(number, host)
        await attempts.succeed()
    for number, host in ((2, other), (3, one)):
        await requests.send(number, host)

    await requests.answer(0, reusable=False)
    await attempts.succeed()

    assert (list(requests.active), limits.connections.active) == ([1, 3], 2)


async def test_idle_connections_that_the_host_has_closed_are_not_counted(
    attempts: Attempts, requests: Requests
) -> None:
    limits = breakers(connections=1)
    host = host_of(limits)
    await requests.send(1, host)
    await attempts.succeed()
    await requests.answer(1)
    cast(FakeTransport, host.idle[0].transport).waiter.ready = True

    await requests.send(2, host)
    await attempts.succeed()

    assert (list(requests.active), counts(limits)) == ([2], (1, 0, 1))


async def test_a_second_try_gets_a_new_connection_though_there_are_idle_ones(
    attempts: Attempts, requests: Requests, nursery: trio.Nursery
) -> None:
    limits = breakers(connections=2)
    host = host_of(limits)
    for number in (1, 2):
        await requests.send(number, host)
        await attempts.succeed()
    await requests.answer(1)
    await requests.answer(2)
    idle = list(host.idle)
    host.begin()

    nursery.start_soon(host.connect, TIMEOUT_S)
    await trio.testing.wait_all_tasks_blocked()

    assert len(attempts) == 1
    assert host.idle == idle[1:]
    assert counts(limits) == (2, 1, 0)
    await attempts.succeed()


async def test_a_host_that_is_removed_serves_those_who_wait_and_opens_nothing_for_nobody(
    attempts: Attempts, requests: Requests
) -> None:
    limits = breakers(connections=2)
    host = host_of(limits)
    for number in (1, 2):
        await requests.send(number, host)
    await attempts.succeed()
    host.remove()
    await attempts.succeed()
    assert list(requests.active) == [1, 2]

    for number in (1, 2):
        await requests.answer(number)
    assert (counts(limits), host.connections) == ((0, 0, 0), 0)


async def test_a_host_that_is_removed_gives_up_connections_for_nobody(attempts: Attempts, requests: Requests) -> None:
    limits = breakers(connections=2)
    host = host_of(limits)
    for number in (1, 2):
        await requests.send(number, host)
    await requests.cancel(1)
    host.remove()
    await requests.cancel(2)
    await attempts.succeed()
    assert counts(limits) == (1, 0, 0)

    host.remove()
    await trio.testing.wait_all_tasks_blocked()

    assert (counts(limits), len(attempts)) == ((0, 0, 0), 0)


class Play:
    """Some hosts under limits, and what happens to them: after each step all must be as the rules say."""

    def __init__(self, limits: CircuitBreakers, hosts: int, attempts: Attempts, requests: Requests) -> None:
        self.limits = limits
        self.hosts = [host_of(limits, port) for port in range(hosts)]
        self.attempts = attempts
        self.requests = requests
        self.queues: dict[BoundedHost, list[int]] = {host: [] for host in self.hosts}
        self.sent = 0

    async def step(self, action: str, which: int) -> None:
        requests, active = self.requests, list(self.requests.active)
        waiting = [number for queue in self.queues.values() for number in queue]
        match action:
            case "send":
                self.sent += 1
                host = self.hosts[which % len(self.hosts)]
                self.queues[host].append(self.sent)
                await requests.send(self.sent, host)
            case "answer" | "close" if active:
                await requests.answer(active[which % len(active)], reusable=action == "answer")
            case "cancel" if waiting:
                gone = waiting[which % len(waiting)]
                for queue in self.queues.values():
                    queue[:] = [number for number in queue if number != gone]
                await requests.cancel(gone)
            case "succeed" if len(self.attempts):
                await self.attempts.succeed()
            case "fail" if len(self.attempts):
                await self.attempts.fail()
        self.check()

    def check(self) -> None:
        limits, hosts, requests = self.limits, self.hosts, self.requests
        for queue in self.queues.values():
            served = [number for number in queue if number in requests.active or number in requests.failed]
            passed = [number for number in served if requests.failed.get(number) is not OVERFLOW]
            assert passed == queue[: len(passed)], "first come, first served"
            queue[:] = [number for number in queue if number not in served]
        waiting = [len(queue) for queue in self.queues.values()]
        assert [len(host._waiting) for host in hosts] == waiting
        assert limits.pending.active == sum(waiting) <= limits.pending.limit
        assert limits.requests.active == len(requests.active) <= limits.requests.limit
        connections = [host.connections + len(host._connecting) for host in hosts]
        assert limits.connections.active == sum(connections) <= max(limits.connections.limit, 1) + len(hosts) - 1
        assert len(self.attempts) == sum(len(host._connecting) for host in hosts)
        for host in hosts:
            if host._waiting:
                assert not host.idle, "nobody waits while a connection is idle"
                assert host.connections or host._connecting, "nobody waits for nothing"
                assert limits.connections.open or len(host._connecting) >= len(host._waiting), "who may, opens"

    async def end(self) -> None:
        for queue in self.queues.values():
            for number in queue:
                await self.requests.cancel(number)
        for number in list(self.requests.active):
            await self.requests.answer(number)
        for host in self.hosts:
            host.remove()
        await trio.testing.wait_all_tasks_blocked()
        assert counts(self.limits) == (0, 0, 0)


_limit = st.none() | st.integers(0, 4)
_actions = st.sampled_from(
    ["send", "send", "send", "answer", "answer", "close", "cancel", "succeed", "succeed", "fail"]
)


@given(
    limits=st.builds(breakers, _limit, _limit, _limit),
    hosts=st.integers(1, 3),
    steps=st.lists(st.tuples(_actions, st.integers(0, 9)), max_size=40),
)
def test_whatever_happens_the_limits_hold_and_every_slot_is_given_back(
    limits: CircuitBreakers, hosts: int, steps: Sequence[tuple[str, int]]
) -> None:
    async def play() -> None:
        attempts = Attempts()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(host_module, "connect", attempts.connect)
            async with trio.open_nursery() as nursery:
                playing = Play(limits, hosts, attempts, Requests(nursery))
                for action, which in steps:
                    await playing.step(action, which)
                await playing.end()

    trio.run(play, clock=trio.testing.MockClock())
