"""The policies by which requests of one hash go to one host, the same as in Envoy: ring hash and Maglev.

Both are made of the hosts' addresses and weights, and when a host goes, nearly all requests of the others stay where
they were. Both are made anew for each change of the hosts or of their health, and the event loop waits for as long:
about a microsecond for each point of a ring, and some tens of milliseconds for a table of 65,537 entries
(`python -m bench balancers`). Those made last are remembered: when a host that was ejected returns, nothing is made.

Sources: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers, and
what Envoy 1.40 does.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil

from xxhash import xxh64_intdigest

from ....snapshot import MAX_RING_SIZE, Maglev, Pipe, RingHash
from ...http.message import Request
from ..host import Host
from .balancer import Chance

_REMEMBERED = 16
_MAX_REMEMBERED = 1 << 17  # entries of one that is, at 4 or 12 bytes each

HashOf = Callable[[Request], int]
"""The hash of a request, 64 bits."""

Share = tuple[Host, float]
"""A host, and its share of the requests. The shares of all hosts make 1."""


def hash_of(chance: Chance) -> HashOf:
    """The hash that a request's route finds in it. A request without any goes anywhere."""

    def found(request: Request) -> int:
        # Only routes with hash policies set it.
        hash_key: Callable[[], int | None] | None = getattr(request, "hash_key", None)
        key = None if hash_key is None else hash_key()
        return int(chance() * 2**64) if key is None else key

    return found


class Ring:
    """Every host has points on a ring, in proportion to its weight; a request's host has the next one from its hash."""

    def __init__(self, config: RingHash, shares: Sequence[Share], hash_of: HashOf) -> None:
        self._hosts = [host for host, _ in shares]
        keys, parts = tuple(map(_key, self._hosts)), tuple(share for _, share in shares)
        size = _ring_size(parts, config.minimum_ring_size)
        make = _ring if size <= _MAX_REMEMBERED else _ring.__wrapped__
        self._hashes, self._owners = make(keys, parts, size)
        self._hash_of = hash_of

    def pick(self, request: Request, attempt: int = 0) -> Host:
        place = bisect_left(self._hashes, self._hash_of(request)) + attempt
        return self._hosts[self._owners[place % len(self._owners)]]


def _ring_size(shares: Sequence[float], minimum: int) -> float:
    """How many points a ring has: as many as give the host of the least weight a whole number, if there is room."""
    least = min(shares)
    return min(ceil(least * minimum) / least, float(MAX_RING_SIZE))


@lru_cache(_REMEMBERED)
def _ring(keys: tuple[bytes, ...], shares: tuple[float, ...], size: float) -> tuple[array[int], array[int]]:
    """All points on a ring in order: their hashes, and the places of their owners.

    Where there is no room for whole numbers of points, a host may have one more or less than its share: sums run over
    all hosts, so that they come out right in the end.
    """
    points: list[tuple[int, int]] = []
    target = 0.0
    for owner, (key, share) in enumerate(zip(keys, shares, strict=True)):
        target += size * share
        prefix = key + b"_"
        count = max(0, ceil(target) - len(points))
        points += [(xxh64_intdigest(prefix + b"%d" % number), owner) for number in range(count)]
    points.sort()
    # Arrays: a tenth of the memory that lists of numbers take, and a search costs the same.
    return array("Q", [point for point, _ in points]), array("I", [owner for _, owner in points])


class MaglevTable:
    """A table of all hosts, in proportion to their weights; a request's host is found by its hash in one step.

    Google's, with Envoy's way of weights: https://research.google/pubs/pub44824/
    """

    def __init__(self, config: Maglev, shares: Sequence[Share], hash_of: HashOf) -> None:
        in_order = sorted(shares, key=lambda share: _key(share[0]))
        self._hosts = [host for host, _ in in_order]
        self._size = config.table_size
        make = _table if self._size <= _MAX_REMEMBERED else _table.__wrapped__
        self._owners = make(tuple(map(_key, self._hosts)), tuple(share for _, share in in_order), self._size)
        self._hash_of = hash_of

    def pick(self, request: Request, attempt: int = 0) -> Host:
        key = self._hash_of(request)
        if attempt:
            key ^= 2**64 - attempt
        return self._hosts[self._owners[key % self._size]]


@lru_cache(_REMEMBERED)
def _table(keys: tuple[bytes, ...], shares: tuple[float, ...], size: int) -> array[int]:
    """Who has each of the entries. In each round every host takes the first free entry of its own order of them; one of
    a third of the greatest weight does so in every third round."""
    greatest = max(shares)
    places = [xxh64_intdigest(key) % size for key in keys]
    steps = [xxh64_intdigest(key, 1) % (size - 1) + 1 for key in keys]
    due = [0.0] * len(keys)
    owners = [-1] * size
    left, round_number = size, 0
    while True:
        round_number += 1
        for owner, share in enumerate(shares):
            if round_number * share < due[owner]:
                continue
            due[owner] += greatest
            place, step = places[owner], steps[owner]
            while owners[place] >= 0:
                place += step
                if place >= size:
                    place -= size
            owners[place] = owner
            places[owner] = place
            left -= 1
            if not left:
                return array("I", owners)


def _key(host: Host) -> bytes:
    return (host.address.path if isinstance(host.address, Pipe) else host.name).encode()
