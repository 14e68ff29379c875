"""Workloads, which WorkloadEntries declare, and the selectors that find them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..resources import Resource, WorkloadEntry
from ..snapshot import Address, Pipe, SocketAddress

UNIX_PREFIX = "unix://"


@dataclass(frozen=True, slots=True)
class Workload:
    """A program at an address. `ports` are its own ports, by the names that services have for theirs."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    weight: int = 1

    @classmethod
    def of(cls, entry: WorkloadEntry, labels: Mapping[str, str] | None = None) -> Workload:
        """The workload of an entry; `labels`, those of its metadata, go before those of its spec."""
        return cls(entry.address or "", {**entry.labels, **(labels or {})}, entry.ports, entry.weight or 1)

    def at(self, port: int) -> Address:
        """Where to connect to `port`; a Unix socket has none."""
        if self.address.startswith(UNIX_PREFIX):
            return Pipe(self.address.removeprefix(UNIX_PREFIX))
        return SocketAddress(self.address, port)


class Workloads:
    """Every WorkloadEntry, found by namespace and labels without trying each."""

    def __init__(self, entries: Iterable[Resource[WorkloadEntry]]) -> None:
        self._all: dict[str, list[Workload]] = {}
        self._labelled: dict[tuple[str, str, str], list[Workload]] = {}
        for entry in sorted(entries, key=lambda entry: (entry.namespace, entry.name)):
            workload = Workload.of(entry.spec, entry.labels)
            if not workload.address:
                continue  # reached through its network's gateway alone, and there is one network here
            self._all.setdefault(entry.namespace, []).append(workload)
            for label in workload.labels.items():
                self._labelled.setdefault((entry.namespace, *label), []).append(workload)

    def select(self, namespace: str, selector: Mapping[str, str]) -> list[Workload]:
        """The workloads of `namespace` that have every label of `selector`, in the order of their names."""
        candidates = min(
            (self._labelled.get((namespace, *label), []) for label in selector.items()),
            key=len,
            default=self._all.get(namespace, []),
        )
        return [workload for workload in candidates if selector.items() <= workload.labels.items()]
