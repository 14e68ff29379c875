"""Balancing by hash: the same request meets the same endpoint in both proxies."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
from xxhash import xxh64_hexdigest

from meshproxy.snapshot import (
    Cluster,
    Endpoint,
    FilterChain,
    HashCookie,
    HashHeader,
    HashPolicy,
    HashQueryParameter,
    HashSourceIp,
    HeaderMutations,
    HeaderValue,
    HttpConnectionManager,
    LbPolicy,
    Listener,
    Locality,
    LocalityWeight,
    Maglev,
    RingHash,
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
from ..proxy.support import Answer as Response
from ..proxy.support import Client
from .exchanges import Answer, head
from .referee import Recorder, both

ENDPOINTS = 7
KEYS = 400


@dataclass(frozen=True)
class Met:
    """Which endpoint each request met, by its number, in Envoy and here."""

    envoy: list[int]
    ours: list[int]


def met(cluster: Cluster, route: Route, heads: Sequence[bytes], folder: Path, ill: Collection[int] = ()) -> Met:
    """Send requests to a cluster by a route through both proxies.

    The endpoints are found at other addresses; those whose numbers are `ill` are unhealthy.
    """
    return Met(*([int(answer.body) for answer in answers] for answers in _answered(cluster, route, heads, folder, ill)))


def _answered(
    cluster: Cluster, route: Route, heads: Sequence[bytes], folder: Path, ill: Collection[int] = ()
) -> list[list[Response]]:
    return trio.run(_asked, cluster, route, heads, folder, ill)


async def _asked(
    cluster: Cluster, route: Route, heads: Sequence[bytes], folder: Path, ill: Collection[int]
) -> list[list[Response]]:
    recorders = [Recorder() for _ in cluster.endpoints]
    async with trio.open_nursery() as backends:
        for number, recorder in enumerate(recorders):
            recorder.answer = Answer((b"HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 1\r\n\r\n%d" % number,))
            backends.start_soon(recorder.run)
        endpoints = tuple(
            replace(one, address=recorder.address) for one, recorder in zip(cluster.endpoints, recorders, strict=True)
        )
        host = VirtualHost("all", ("*",), (route,))
        manager = HttpConnectionManager(RouteConfiguration("routes", (host,)))
        listener = Listener("l", SocketAddress("127.0.0.1", 0), (FilterChain(manager),))
        snapshot = Snapshot((listener,), (replace(cluster, endpoints=endpoints),))
        async with both([snapshot], folder, [recorders[number].address for number in ill]) as referee:
            answers = [await _ask(where["l"], heads) for where in (referee.envoy, referee.ours)]
        backends.cancel_scope.cancel()
    return answers


async def _ask(proxy: SocketAddress, heads: Sequence[bytes]) -> list[Response]:
    client = Client(trio.socket.socket())
    await client.socket.connect((proxy.host, proxy.port))
    here = "{}:{}".format(*client.socket.getsockname()) + str(proxy)
    try:
        answers = [await client.request(one) for one in heads]
    finally:
        client.close()
    for answer in answers:
        answer.head = answer.head.replace(xxh64_hexdigest(here.encode()).encode(), b"<CONNECTION>")
    return answers


def by_hash(policy: LbPolicy, *weights: int) -> Cluster:
    weights = weights or (1,) * ENDPOINTS
    endpoints = tuple(Endpoint(SocketAddress("127.0.0.1", port), weight) for port, weight in enumerate(weights))
    return Cluster("c", endpoints, lb_policy=policy)


def hashed(*policies: HashPolicy) -> Route:
    return Route("", RouteMatch(), RouteAction((WeightedCluster("c"),), hash_policies=policies))


def keys(count: int = KEYS) -> list[bytes]:
    return [head("/", f"x-user: {number}") for number in range(count)]


@needs_envoy
@pytest.mark.parametrize("weights", [(), (1, 2, 5), (1, 1, 1, 100), (7,)])
@pytest.mark.parametrize(
    "policy", [RingHash(), RingHash(1), RingHash(10), RingHash(100_000), Maglev(), Maglev(251), Maglev(5)]
)
def test_a_key_has_the_same_endpoint(policy: LbPolicy, weights: tuple[int, ...], tmp_path: Path) -> None:
    found = met(by_hash(policy, *weights), hashed(HashHeader("x-user")), keys(), tmp_path)
    assert found.ours == found.envoy
    assert len(set(found.ours)) > 1 or len(weights) == 1 or policy == Maglev(5)


@needs_envoy
@pytest.mark.parametrize("policy", [RingHash(), Maglev(1009)])
@pytest.mark.parametrize("weights", [(1, 3), (0, 1), (100, 1)])
def test_a_key_has_the_same_endpoint_in_weighted_localities(
    policy: LbPolicy, weights: tuple[int, int], tmp_path: Path
) -> None:
    east, west = Locality("east", "a"), Locality("west")
    plain = by_hash(policy, 1, 2, 3, 4, 5)
    endpoints = tuple(replace(one, locality=east if number % 2 else west) for number, one in enumerate(plain.endpoints))
    cluster = replace(
        plain,
        endpoints=endpoints,
        locality_weights=(LocalityWeight(east, 0, weights[0]), LocalityWeight(west, 0, weights[1])),
    )
    found = met(cluster, hashed(HashHeader("x-user")), keys(), tmp_path)
    assert found.ours == found.envoy


def spread_out(policy: LbPolicy, priorities: str, panic_threshold: float, weighted: bool) -> Cluster:
    """A cluster with an endpoint for each digit, its priority, in two localities in turn, with weights or without."""
    plain = by_hash(policy, *(1 + number % 3 for number in range(len(priorities))))
    places = (Locality("east"), Locality("west"))
    endpoints = tuple(
        replace(one, priority=int(priority), locality=places[number % 2])
        for number, (one, priority) in enumerate(zip(plain.endpoints, priorities, strict=True))
    )
    groups = dict.fromkeys((one.locality, one.priority) for one in endpoints)
    weights = tuple(LocalityWeight(*group, weight) for weight, group in enumerate(groups, 1)) if weighted else ()
    return replace(plain, endpoints=endpoints, healthy_panic_threshold=panic_threshold, locality_weights=weights)


WITH_THE_ILL = pytest.mark.parametrize(
    ("priorities", "ill"),
    [
        ("0000", [1]),
        ("000011", [0, 1]),
        ("000011", [0, 1, 2, 3]),
        ("00001122", [0, 1, 2, 4]),
        ("0000", [0, 1, 2, 3]),
        ("000011", [0, 1, 2, 3, 4, 5]),
        ("00001111", [0, 1, 2, 4, 5, 6]),
    ],
)


@needs_envoy
@WITH_THE_ILL
@pytest.mark.parametrize("panic_threshold", [0, 50])
@pytest.mark.parametrize("policy", [RingHash(), Maglev(251)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_key_has_the_same_endpoint_when_some_are_ill(
    policy: LbPolicy, priorities: str, ill: list[int], panic_threshold: float, weighted: bool, tmp_path: Path
) -> None:
    cluster = spread_out(policy, priorities, panic_threshold, weighted)
    if len(ill) == len(priorities) and not panic_threshold:
        answers = _answered(cluster, hashed(HashHeader("x-user")), keys(3), tmp_path, ill)
        assert [[one.status for one in side] for side in answers] == [[503] * 3] * 2
        return
    found = met(cluster, hashed(HashHeader("x-user")), keys(), tmp_path, ill)
    assert found.ours == found.envoy


@needs_envoy
@WITH_THE_ILL
@pytest.mark.parametrize("weighted", [False, True])
def test_requests_are_spread_alike_when_some_are_ill(
    priorities: str, ill: list[int], weighted: bool, tmp_path: Path
) -> None:
    """Chance decides on the priority alone; locality and endpoint take turns."""
    requests = 1200
    found = met(spread_out("ROUND_ROBIN", priorities, 50, weighted), hashed(), [head()] * requests, tmp_path, ill)
    for number in range(len(priorities)):
        # Five standard deviations of the difference of two counts that are drawn with even odds.
        assert abs(found.ours.count(number) - found.envoy.count(number)) < 5 * (2 * requests / 4) ** 0.5


@needs_envoy
@pytest.mark.parametrize("name", ["x-user", ":authority", "host", ":path", ":method", ":scheme", "x-added"])
def test_a_header_is_hashed_as_it_is_sent_on(name: str, tmp_path: Path) -> None:
    route = replace(
        hashed(HashHeader(name)), request_headers=HeaderMutations(add=(HeaderValue("x-added", "%REQ(x-user)%!"),))
    )
    heads = [
        head(f"/{n}?a", f"x-user: {n}", f"x-user: {n // 2}", method=method, host=host)
        for n, (method, host) in enumerate([("GET", "a.example"), ("PUT", "A.example:80"), ("POST", "b.example")] * 20)
    ]
    heads = [one.replace(b"\r\n\r\n", b"\r\ncontent-length: 0\r\n\r\n") for one in heads]
    found = met(by_hash(Maglev(251)), route, heads, tmp_path)
    assert found.ours == found.envoy


@needs_envoy
def test_the_order_of_a_headers_fields_makes_no_difference(tmp_path: Path) -> None:
    heads = [
        head("/", *(f"x-user: {value}" for value in order))
        for n in range(50)
        for order in ([f"{n}", "b"], ["b", f"{n}"])
    ]
    found = met(by_hash(Maglev(251)), hashed(HashHeader("x-user")), heads, tmp_path)
    assert found.ours == found.envoy
    assert found.ours[::2] == found.ours[1::2]


_ASKED_AGAIN = 40


def met_by_each(policies: Sequence[HashPolicy], heads: Sequence[bytes], folder: Path) -> list[tuple[set[int], ...]]:
    """The endpoints that each request meets when it is sent many times, in Envoy and here."""
    found = met(by_hash(Maglev(251)), hashed(*policies), [one for one in heads for _ in range(_ASKED_AGAIN)], folder)
    return [
        tuple(set(side[start : start + _ASKED_AGAIN]) for side in (found.envoy, found.ours))
        for start in range(0, len(found.ours), _ASKED_AGAIN)
    ]


def agree(found: Sequence[tuple[set[int], ...]], heads: Sequence[bytes]) -> None:
    """A request meets the same endpoint in both, or different ones in both."""
    for (envoys, ours), one in zip(found, heads, strict=True):
        assert ours == envoys or min(len(ours), len(envoys)) > 1, one


@needs_envoy
@pytest.mark.parametrize(
    "cookies",
    [
        *(["c=abc"], ["a=1; c=abc"], ["a=1;c=abc"], ['c="abc"'], ["c="], ["c=1; c=2"], ["a=1", "c=5"], ["c=1", "c=2"]),
        *(["c = x"], ["C=1"], ["c=a=b"], ["c"], ["cc=1; c=7"], ["c=a,b; d"], ["a=1,c=2"], ['c="a;b"'], ["c= x"]),
        *(
            ['c="'],
            ['c="x'],
            ['c=""'],
            ["c=%41"],
            ["c=; c=9"],
            ["c=x ; d=1"],
            ["a;\tc=x"],
            ["c=x\t; d"],
            ["; ;c=1"],
            [""],
        ),
    ],
)
def test_a_cookie_is_read_as_envoy_reads_it(cookies: list[str], tmp_path: Path) -> None:
    heads = [head("/", *(f"cookie: {value}" for value in cookies))]
    agree(met_by_each([HashCookie("c")], heads, tmp_path), heads)


@needs_envoy
def test_a_query_parameter_is_read_as_envoy_reads_it(tmp_path: Path) -> None:
    queries = ("?q=", "?q", "?a=1&q=x%41", "?q=1&q=2", "?Q=1", "?q=a+b", "?q=a&b", "?a;q=1", "", "?q==3", "?%71=3")
    heads = [head(f"/{query}") for query in (*queries, "?&q=3", "?q=%zz", "?q=1?q=2", "?q=%E4", "?=q")]
    agree(met_by_each([HashQueryParameter("q")], heads, tmp_path), heads)


@needs_envoy
def test_a_request_with_nothing_to_hash_goes_anywhere(tmp_path: Path) -> None:
    ((envoys, ours),) = met_by_each([HashHeader("x-user")], [head("/")], tmp_path)
    assert min(len(envoys), len(ours)) > 1


@needs_envoy
def test_several_hashes_are_taken_together(tmp_path: Path) -> None:
    policies = (HashHeader("x-user"), HashSourceIp(), HashQueryParameter("q"), HashHeader("x-user"))
    heads = [head(f"/?q={n % 5}" if n % 2 else "/", *([f"x-user: {n}"] if n % 3 else [])) for n in range(200)]
    found = met(by_hash(Maglev(251)), hashed(*policies), heads, tmp_path)
    assert found.ours == found.envoy


@needs_envoy
def test_a_client_is_hashed_by_its_address(tmp_path: Path) -> None:
    found = met(by_hash(Maglev(251)), hashed(HashSourceIp()), [head("/")] * 3, tmp_path)
    assert found.ours == found.envoy


@needs_envoy
@pytest.mark.parametrize(
    "cookie",
    [
        HashCookie("c", 60),
        HashCookie("c", 0),
        HashCookie("c", 3600, "/p", (("SameSite", "Strict"), ("Secure", ""))),
        HashCookie("c", path="/p"),
    ],
)
@pytest.mark.parametrize("sent", [[], ["cookie: c=1"], ["cookie: c="]])
def test_a_cookie_is_made_as_envoy_makes_it(cookie: HashCookie, sent: list[str], tmp_path: Path) -> None:
    route = replace(hashed(cookie), response_headers=HeaderMutations(add=(HeaderValue("x-after", "1"),)))
    envoys, ours = _answered(by_hash(Maglev(251)), route, [head("/", *sent)] * 2, tmp_path)
    assert [_made(one) for one in ours] == [_made(one) for one in envoys]
    # The connection has another port on either side, so that the cookie has another value.
    assert any("<CONNECTION>" in one for one in _made(ours[0])) == (
        cookie.ttl_s is not None and sent != ["cookie: c=1"]
    )


def _made(answer: Response) -> list[str]:
    return re.findall(r"(?:set-cookie: .*|x-after.*|x-up.*)(?=\r)", answer.head.decode())
