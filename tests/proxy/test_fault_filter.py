"""Faults on purpose: what happens to which request is chance's to say, and how long one is held back the clock's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from meshproxy.proxy.filters.context import FilterContext
from meshproxy.proxy.filters.fault import fault
from meshproxy.proxy.http.failures import CLUSTER_NOT_FOUND, Failure
from meshproxy.snapshot import (
    FaultAbort,
    FaultDelay,
    FaultInjection,
    FractionalPercent,
    Route,
    RouteAction,
    RouteMatch,
    WeightedCluster,
)

from .made import Backend, failing, made_request
from .support import CLUSTER, GET, OK, backend, cluster, gateway, snapshot

TENTH = FractionalPercent(10)
ALWAYS = FractionalPercent(100)
NEVER = FractionalPercent(0)


def drawing(*numbers: float) -> FilterContext:
    """Chance draws these numbers, one after the other."""
    drawn = iter(numbers)
    return FilterContext(lambda: next(drawn), lambda task: None)


def injected(*, delay: FractionalPercent | None = None, abort: FractionalPercent | None = None) -> FaultInjection:
    """A delay of 5 s, an abort with 503, or both."""
    return FaultInjection(
        FaultDelay(5.0, delay) if delay else None,
        FaultAbort(abort, 503) if abort else None,
    )


@pytest.mark.parametrize(("drawn", "delay_s"), [(0.0, 5.0), (0.0999, 5.0), (0.1, 0.0), (0.9999, 0.0)])
async def test_as_many_requests_are_delayed_as_the_percentage_says(
    drawn: float, delay_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    request, started = made_request(), trio.current_time()

    response = await fault(injected(delay=TENTH), drawing(drawn), Backend())(request)

    assert trio.current_time() - started == delay_s
    assert (response.status, request.flags) == (200, "DI" if delay_s else "")


@pytest.mark.parametrize(
    ("percentage", "drawn", "happens"),
    [
        (FractionalPercent(1, 1_000_000), 0.000_000_9, True),
        (FractionalPercent(1, 1_000_000), 0.000_001, False),
        (FractionalPercent(50, 10_000), 0.004_9, True),
        (NEVER, 0.0, False),
        (ALWAYS, 0.999_999_999, True),
    ],
)
async def test_as_many_requests_are_aborted_as_the_percentage_says(
    percentage: FractionalPercent, drawn: float, happens: bool
) -> None:
    called = fault(injected(abort=percentage), drawing(drawn), Backend())(made_request())

    if happens:
        with pytest.raises(Failure, match="fault_filter_abort"):
            await called
    else:
        assert (await called).status == 200


async def test_an_abort_comes_after_the_delay(autojump_clock: trio.testing.MockClock) -> None:
    request, started = made_request(), trio.current_time()

    with pytest.raises(Failure) as failure:
        await fault(injected(delay=TENTH, abort=TENTH), drawing(0.0, 0.0), Backend())(request)
    response = failure.value.respond(request)

    assert trio.current_time() - started == 5.0
    assert (response.status, response.body) == (503, b"fault filter abort")
    assert (request.flags, request.details) == ("DI,FI", "fault_filter_abort")


@pytest.mark.parametrize(
    ("abort", "grpc_status"),
    [
        (FaultAbort(ALWAYS, grpc_status=7), b"7"),
        (FaultAbort(ALWAYS, grpc_status=0), b"0"),
        (FaultAbort(ALWAYS, 404), b"12"),
    ],
)
async def test_a_grpc_request_is_aborted_in_grpcs_way(abort: FaultAbort, grpc_status: bytes) -> None:
    request = made_request(headers=[(b"content-type", b"application/grpc")])

    with pytest.raises(Failure) as failure:
        await fault(FaultInjection(abort=abort), drawing(0.0), Backend())(request)
    response = failure.value.respond(request)

    assert response.status == 200
    assert dict(response.headers)[b"grpc-status"] == grpc_status


async def test_another_request_aborted_with_a_grpc_status_gets_200(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(Failure) as failure:
        await fault(FaultInjection(abort=FaultAbort(ALWAYS, grpc_status=7)), drawing(0.0), Backend())(made_request())

    response = failure.value.respond(made_request())
    assert (response.status, response.body) == (200, b"fault filter abort")


async def test_a_failure_behind_a_delay_has_both_flags(autojump_clock: trio.testing.MockClock) -> None:
    request = made_request()

    with pytest.raises(Failure) as failure:
        await fault(injected(delay=ALWAYS), drawing(0.0), failing(Failure(CLUSTER_NOT_FOUND)))(request)
    failure.value.respond(request)

    assert request.flags == "DI,NC"


def faulty(faults: FaultInjection) -> Route:
    return Route("", RouteMatch(), RouteAction((WeightedCluster(CLUSTER),), fault=faults))


async def test_an_abort_is_answered_and_logged_with_its_flag() -> None:
    async with backend() as server, gateway(snapshot(server, routes=[faulty(injected(abort=ALWAYS))])) as running:
        answer = await running.exchange(GET)
        [line] = await running.logged()

    assert (answer.status, answer.body, server.connections) == (503, b"fault filter abort", [])
    assert (line.status, line.flags, line.details) == (503, "FI", "fault_filter_abort")


async def test_a_client_that_leaves_while_it_is_held_back_is_logged_as_gone() -> None:
    hour = FaultInjection(FaultDelay(3600.0, ALWAYS))
    async with backend() as server, gateway(snapshot(cluster(server), routes=[faulty(hour)])) as running:
        client = await running.client()
        await client.send(GET)
        client.close()
        [line] = await running.logged()

    assert (line.status, line.flags, line.details) == (0, "DI,DC", "downstream_remote_disconnect")
    assert server.connections == []


async def test_a_delayed_request_is_served_in_the_end() -> None:
    moment = FaultInjection(FaultDelay(0.001, ALWAYS))
    async with backend() as server, gateway(snapshot(server, routes=[faulty(moment)])) as running:
        answer = await running.exchange(GET)
        [line] = await running.logged()

    assert answer.body == OK.partition(b"\r\n\r\n")[2]
    assert (line.status, line.flags) == (200, "DI")


def test_percentages_are_told_as_people_write_them() -> None:
    numbers: Sequence[FractionalPercent] = (TENTH, FractionalPercent(1234, 1_000_000), FractionalPercent(5, 10_000))

    assert list(map(str, numbers)) == ["10 %", "0.1234 %", "0.05 %"]
