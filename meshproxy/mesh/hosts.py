"""Which hosts a pattern covers, and what two lists of patterns have in common.

A pattern is a host name, or `*` and the end of one, in lower case: `*.example.com` stands for every name that
ends in `.example.com`, however many labels it has, but not for `example.com` (Istio's `host.Name`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


def is_wildcard(pattern: str) -> bool:
    """Whether `pattern` may stand for several hosts."""
    return pattern.startswith("*")


def subset_of(pattern: str, other: str) -> bool:
    """Whether `other` stands for every host that `pattern` stands for."""
    if not is_wildcard(other):
        return pattern == other
    if is_wildcard(pattern):
        return len(pattern) >= len(other) and pattern[1:].endswith(other[1:])
    return pattern.endswith(other[1:])


def specificity(pattern: str) -> tuple[bool, int, str]:
    """A sort key that puts the most specific first: names before wildcards, longer before shorter."""
    return is_wildcard(pattern), -len(pattern), pattern


class HostMap(Generic[T]):
    """Something known of each of some patterns; a look-up costs a name's labels, not the map's size.

    Gateways with a thousand hosts and a thousand VirtualServices are ordinary; comparing every pair is not an
    option.
    """

    def __init__(self, known: Mapping[str, T]) -> None:
        self._known = dict(known)
        # Wildcards that end inside a label, such as `*-v1.example.com`, are rare: these few are tried one by
        # one.
        self._within_label = sorted(filter(_ends_within_label, self._known), key=specificity)
        self._below: dict[str, list[str]] = {}
        for pattern in self._known:
            for wildcard in _wildcards_above(pattern):
                self._below.setdefault(wildcard, []).append(pattern)

    def __repr__(self) -> str:
        return f"HostMap({', '.join(sorted(self._known, key=specificity))})"

    def best(self, host: str) -> T | None:
        """What is known of the most specific pattern that covers all of `host`, itself a pattern perhaps."""
        pattern = self.covering(host)
        return None if pattern is None else self._known[pattern]

    def covering(self, host: str) -> str | None:
        """The most specific pattern of this map that covers all of `host`."""
        if host in self._known:
            return host
        candidates = [wildcard for wildcard in _wildcards_above(host) if wildcard in self._known][:1]
        candidates += [wildcard for wildcard in self._within_label if subset_of(host, wildcard)][:1]
        return min(candidates, key=specificity, default=None)

    def covered(self, pattern: str) -> list[str]:
        """The patterns of this map, other than `pattern` itself, that it covers."""
        if _ends_within_label(pattern):
            return [known for known in self._known if known != pattern and subset_of(known, pattern)]
        return self._below.get(pattern, [])

    def intersection(self, hosts: Iterable[str]) -> tuple[str, ...]:
        """What this map and `hosts` both stand for: of two that overlap, the narrower."""
        common: dict[str, None] = {}
        for host in hosts:
            if self.covering(host) is not None:
                common[host] = None
            common.update(dict.fromkeys(self.covered(host)))
        return tuple(common)


def _ends_within_label(pattern: str) -> bool:
    return is_wildcard(pattern) and pattern[1:2] not in ("", ".")


def _wildcards_above(pattern: str) -> Iterator[str]:
    """The wildcards above `pattern`, the longest first: `a.b.c` gives `*.b.c`, `*.c`, `*`."""
    if pattern == "*":
        return
    parent = pattern.removeprefix("*.").partition(".")[2]
    while parent:
        yield f"*.{parent}"
        parent = parent.partition(".")[2]
    yield "*"
