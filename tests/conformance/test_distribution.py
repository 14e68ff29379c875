"""How requests are spread over destinations and endpoints: both proxies against what is expected.

Chance decides in both, and cannot be passed to Envoy: the bounds are so wide that a right one fails once in a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from meshproxy.snapshot import (
    Action,
    Cluster,
    Endpoint,
    FilterChain,
    HttpConnectionManager,
    LbPolicy,
    Listener,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Snapshot,
    SocketAddress,
    VirtualHost,
    WeightedCluster,
)

from ..envoy.binary import needs_envoy
from ..proxy.support import Client
from .exchanges import OK, Answer, head
from .referee import Recorder, both

REQUESTS = 1600
CLIENTS = 8
SLOW_S = 0.02


@dataclass(frozen=True)
class Spread:
    """How many requests each backend got, by Envoy and by meshproxy."""

    envoy: tuple[int, ...]
    ours: tuple[int, ...]


def spread(action: Action, clusters: Sequence[tuple[Sequence[int], LbPolicy]], folder: Path, slow: int = -1) -> Spread:
    """Send requests through both proxies. A cluster is its endpoints' weights and its policy; their names are numbers.

    The backend of number `slow` takes its time.
    """
    return trio.run(_spread, action, clusters, folder, slow)


async def _spread(
    action: Action, clusters: Sequence[tuple[Sequence[int], LbPolicy]], folder: Path, slow: int
) -> Spread:
    recorders = [Recorder() for weights, _ in clusters for _ in weights]
    if slow >= 0:
        recorders[slow].answer = Answer((b"", OK), pause_s=SLOW_S)
    async with trio.open_nursery() as backends:
        for recorder in recorders:
            backends.start_soon(recorder.run)
        async with both([_snapshot(action, clusters, recorders)], folder) as referee:
            counts = [await _counted(where["l"], recorders) for where in (referee.envoy, referee.ours)]
        backends.cancel_scope.cancel()
    return Spread(*counts)


def _snapshot(
    action: Action, clusters: Sequence[tuple[Sequence[int], LbPolicy]], recorders: Sequence[Recorder]
) -> Snapshot:
    addresses = iter(recorders)
    made = tuple(
        Cluster(str(number), tuple(Endpoint(next(addresses).address, weight) for weight in weights), lb_policy=policy)
        for number, (weights, policy) in enumerate(clusters)
    )
    host = VirtualHost("all", ("*",), (Route("", RouteMatch(), action),))
    manager = HttpConnectionManager(RouteConfiguration("routes", (host,)))
    return Snapshot((Listener("l", SocketAddress("127.0.0.1", 0), (FilterChain(manager),)),), made)


async def _counted(proxy: SocketAddress, recorders: Sequence[Recorder]) -> tuple[int, ...]:
    for recorder in recorders:
        recorder.received = []
    async with trio.open_nursery() as clients:
        for _ in range(CLIENTS):
            clients.start_soon(_ask, proxy, REQUESTS // CLIENTS)
    return tuple(len(recorder.received) for recorder in recorders)


async def _ask(proxy: SocketAddress, count: int) -> None:
    client = Client(trio.socket.socket())
    try:
        await client.socket.connect((proxy.host, proxy.port))
        for _ in range(count):
            assert (await client.request(head())).status == 200
    finally:
        client.close()


def _surprise(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Pearson's chi-squared statistic."""
    expected = [sum(counts) * share / sum(shares) for share in shares]
    return sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))


# With one or two degrees of freedom, chance exceeds this once in a million times.
_SURPRISING = 27.6


@needs_envoy
@pytest.mark.parametrize("weights", [(90, 10), (25, 75), (1, 1), (1, 2, 5)])
def test_destinations_are_chosen_by_weight(weights: tuple[int, ...], tmp_path: Path) -> None:
    action = RouteAction(tuple(WeightedCluster(str(number), weight) for number, weight in enumerate(weights)))
    found = spread(action, [((1,), "ROUND_ROBIN")] * len(weights), tmp_path)
    assert _surprise(found.envoy, weights) < _SURPRISING
    assert _surprise(found.ours, weights) < _SURPRISING


@needs_envoy
@pytest.mark.parametrize(
    ("policy", "weights", "shares"),
    [
        ("ROUND_ROBIN", (1, 1), (1, 1)),
        ("ROUND_ROBIN", (1, 2, 5), (1, 2, 5)),
        ("RANDOM", (1, 1), (1, 1)),
        ("RANDOM", (1, 5), (1, 1)),
        ("LEAST_REQUEST", (1, 1), (1, 1)),
    ],
)
def test_endpoints_are_chosen_by_policy(
    policy: LbPolicy, weights: tuple[int, ...], shares: tuple[int, ...], tmp_path: Path
) -> None:
    found = spread(RouteAction((WeightedCluster("0"),)), [(weights, policy)], tmp_path)
    assert _surprise(found.envoy, shares) < _SURPRISING
    assert _surprise(found.ours, shares) < _SURPRISING


@needs_envoy
def test_least_request_spares_a_slow_endpoint(tmp_path: Path) -> None:
    action = RouteAction((WeightedCluster("0"),))
    least = spread(action, [((1, 1), "LEAST_REQUEST")], tmp_path, slow=0)
    for slow, fast in (least.envoy, least.ours):
        assert slow < fast / 2
    assert abs(least.envoy[0] - least.ours[0]) < REQUESTS * 0.15
