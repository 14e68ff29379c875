"""`python -m bench balancers`: what consistent hashing costs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import click
from rich.table import Table

from meshproxy.proxy.http.message import Request
from meshproxy.proxy.upstream.balancers import load_balancer
from meshproxy.proxy.upstream.host import Host
from meshproxy.snapshot import Cluster, LbPolicy, Maglev, RingHash, SocketAddress

from .options import console

T = TypeVar("T")

_KEYS = 20_000
_SUBJECTS: tuple[tuple[LbPolicy, int], ...] = (
    (RingHash(), 5),
    (RingHash(), 1000),
    (RingHash(100_000), 1000),
    (Maglev(), 5),
    (Maglev(), 1000),
    (Maglev(4_999_999), 10),
)


@click.command()
def balancers() -> None:
    """Time the making of rings and tables, which each change of hosts does, and the choice of a host.

    By the wall clock, the best of several: on a machine that does nothing else.
    """
    table = Table("policy", "hosts", "made in ms", "a choice in µs")
    for policy, number in _SUBJECTS:
        made_s, chosen_s = _measured(policy, number)
        table.add_row(repr(policy), str(number), f"{made_s * 1e3:.1f}", f"{chosen_s * 1e6:.2f}")
    console.print(table)


def _measured(policy: LbPolicy, number: int) -> tuple[float, float]:
    """Seconds to make a balancer for so many hosts, and seconds for one choice of it."""
    hosts = [Host(SocketAddress(f"10.0.{n >> 8}.{n & 255}", 8080)) for n in range(number)]
    config = Cluster("c", (), lb_policy=policy)
    made_s, balancer = _best(lambda: load_balancer(config, hosts, random.random, time.monotonic), rounds=3)
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
