"""Workloads, which WorkloadEntries declare, and the selectors that find them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..resources import Resource, WorkloadEntry
from ..snapshot import UNKNOWN_LOCALITY, Address, HealthCheck, Locality, Pipe, SocketAddress
from .peer_authentication import Effective, PeerAuthentications
from .workload_groups import Groups, health_check

UNIX_PREFIX = "unix://"

LOCALITY_LABEL = "istio-locality"
NETWORK_LABEL = "topology.istio.io/network"
TLS_MODE_LABEL = "security.istio.io/tlsMode"
"""The label that tells whether a workload takes mutual TLS, which is to say, has a sidecar: `istio`, or `disabled`."""

DEFAULT_SERVICE_ACCOUNT = "default"
"""The service account of a workload that names none, as in Kubernetes."""


def locality_of(text: str) -> Locality:
    """The locality that `region/zone/subzone` names, or only the beginning of it."""
    return Locality(*text.split("/")[:3])


def topology_labels(locality: Locality) -> dict[str, str]:
    """The labels that tell a workload's place."""
    labels = {
        "topology.kubernetes.io/region": locality.region,
        "topology.kubernetes.io/zone": locality.zone,
        "topology.istio.io/subzone": locality.sub_zone,
    }
    return {name: value for name, value in labels.items() if value}


@dataclass(frozen=True, slots=True)
class Workload:
    """A program at an address. `ports` are its own ports, by the names that services have for theirs.

    `service_account` is `NAMESPACE/ACCOUNT`, empty where nobody said; it is what the workload's identity is made of.
    `mtls` is what its sidecar takes; None where it has none that is known of.
    """

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    weight: int = 1
    locality: Locality = UNKNOWN_LOCALITY
    network: str = ""
    health_check: HealthCheck | None = None
    service_account: str = ""
    mtls: Effective | None = None

    @classmethod
    def of(cls, entry: WorkloadEntry, labels: Mapping[str, str] | None = None, namespace: str = "") -> Workload:
        """The workload of an entry of `namespace`; `labels`, those of its metadata, go before those of its spec.

        A locality in its label has dots where a label may have no slashes.
        """
        merged = {**entry.labels, **(labels or {})}
        account = entry.service_account or (DEFAULT_SERVICE_ACCOUNT if has_sidecar(entry, merged) else "")
        written = entry.locality or merged.get(LOCALITY_LABEL, "")
        locality = locality_of(written if "/" in written or entry.locality else written.replace(".", "/"))
        return cls(
            entry.address or "",
            merged,
            entry.ports,
            entry.weight or 1,
            locality,
            entry.network or "",
            service_account=f"{namespace}/{account}" if account else "",
        )

    @property
    def endpoint_labels(self) -> Mapping[str, str]:
        """Its labels, and those that tell where it is, as its endpoints have them."""
        network = {NETWORK_LABEL: self.network} if self.network else {}
        return {**network, **self.labels, **topology_labels(self.locality)}

    def at(self, port: int) -> Address:
        """Where to connect to `port`; a Unix socket has none."""
        if self.address.startswith(UNIX_PREFIX):
            return Pipe(self.address.removeprefix(UNIX_PREFIX))
        return SocketAddress(self.address, port)


def service_account_of(entry: Resource[WorkloadEntry]) -> tuple[str, str]:
    """Who a workload is: its namespace, and the service account that it runs as."""
    return entry.namespace, entry.spec.service_account or DEFAULT_SERVICE_ACCOUNT


def has_sidecar(entry: WorkloadEntry, labels: Mapping[str, str]) -> bool:
    """Whether a workload with these labels is known to have a sidecar, by its label, or else by its having an identity.

    Source: Istio's `getTLSModeFromWorkloadEntry`.
    """
    said = labels.get(TLS_MODE_LABEL)
    return bool(entry.service_account) if said is None else said == "istio"


class Workloads:
    """Every WorkloadEntry, found by namespace and labels without trying each; and what is known of any by `peers`."""

    def __init__(self, entries: Iterable[Resource[WorkloadEntry]], groups: Groups, peers: PeerAuthentications) -> None:
        self._peers = peers
        self._all: dict[str, list[Workload]] = {}
        self._labelled: dict[tuple[str, str, str], list[Workload]] = {}
        for entry in sorted(entries, key=lambda entry: (entry.namespace, entry.name)):
            workload = self.workload(entry.spec, entry.labels, entry.namespace)
            if not workload.address:
                continue  # reached through its network's gateway alone, and there is one network here
            check = health_check(entry, groups, workload.at)
            if check is not None:
                workload = replace(workload, health_check=check)
            self._all.setdefault(entry.namespace, []).append(workload)
            for label in workload.labels.items():
                self._labelled.setdefault((entry.namespace, *label), []).append(workload)

    def workload(self, entry: WorkloadEntry, labels: Mapping[str, str], namespace: str) -> Workload:
        """The workload of an entry, which may be one that stands in a ServiceEntry."""
        workload = Workload.of(entry, labels, namespace)
        if not has_sidecar(entry, workload.labels):
            return workload
        return replace(workload, mtls=self._peers.of(namespace, workload.endpoint_labels))

    def select(self, namespace: str, selector: Mapping[str, str]) -> list[Workload]:
        """The workloads of `namespace` that have every label of `selector`, in the order of their names."""
        candidates = min(
            (self._labelled.get((namespace, *label), []) for label in selector.items()),
            key=len,
            default=self._all.get(namespace, []),
        )
        return [workload for workload in candidates if selector.items() <= workload.labels.items()]
