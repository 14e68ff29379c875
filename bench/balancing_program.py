"""Times balancers: the making of rings and tables, which each change of hosts does, and the choice of a host.

Writes rows of policy, hosts, milliseconds to make it and microseconds a choice, as JSON: the best of several by the
wall clock. Stands alone: it is run by an interpreter that need not know this package.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from meshproxy.proxy.http.message import Request
from meshproxy.proxy.upstream.balancers import load_balancer
from meshproxy.proxy.upstream.host import Host
from meshproxy.snapshot import Cluster, LbPolicy, Maglev, RingHash, SocketAddress

T = TypeVar("T")

_KEYS = 20_000
_SUBJECTS: tuple[tuple[str, LbPolicy, int], ...] = (
    ("ring hash", RingHash(), 5),
    ("ring hash", RingHash(), 1000),
    ("ring hash of 100,000 points", RingHash(100_000), 1000),
    ("Maglev of 65,537 slots", Maglev(), 5),
    ("Maglev of 65,537 slots", Maglev(), 1000),
    ("least request", "LEAST_REQUEST", 1000),
    ("round robin", "ROUND_ROBIN", 1000),
    ("random", "RANDOM", 1000),
)


def measured(policy: LbPolicy, number: int) -> tuple[float, float]:
    """Seconds to make a balancer for so many hosts, and seconds for one choice of it."""
    config = Cluster("c", (), lb_policy=policy)
    made_s = float("inf")
    for port in range(8000, 8003):  # other hosts each time: what was made is remembered
        hosts = [Host(SocketAddress(f"10.0.{n >> 8}.{n & 255}", port)) for n in range(number)]
        one_s, balancer = _best(partial(load_balancer, config, hosts, random.random, time.monotonic), rounds=1)
        made_s = min(made_s, one_s)
    requests = list(_requests())
    chosen_s, _ = _best(lambda: [balancer.pick(request) for request in requests], rounds=5)
    return made_s, chosen_s / _KEYS


def _requests() -> Iterator[Request]:
    chance = random.Random(1)
    for _ in range(_KEYS):
        request = Request()
        request.hash_key = _always(chance.getrandbits(64))
        yield request


def _always(key: int) -> Callable[[], int]:
    return lambda: key


def _best(run: Callable[[], T], rounds: int) -> tuple[float, T]:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - started)
    return best, result


if __name__ == "__main__":
    rows = []
    for name, policy, number in _SUBJECTS:
        made_s, chosen_s = measured(policy, number)
        rows.append((name, number, made_s * 1e3, chosen_s * 1e6))
    json.dump(rows, sys.stdout)
