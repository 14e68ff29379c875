"""The table of kinds: which are read, in which API versions, into which model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .destination_rule import DestinationRule
from .fields import FieldPath, leaf_paths
from .gateway import Gateway
from .kubernetes import Endpoints, EndpointSlice, Service
from .model import Model
from .service_entry import ServiceEntry, WorkloadEntry
from .virtual_service import VirtualService


class Kind(NamedTuple):
    """A kind that is read. Its fields stand below `spec`, or at the top where `has_spec` is False."""

    name: str
    group: str
    versions: tuple[str, ...]
    model: type[Model]
    has_spec: bool = True
    dotted_names: bool = True

    @property
    def is_istio(self) -> bool:
        """Whether the kind is Istio's own."""
        return self.group == NETWORKING

    @property
    def api_versions(self) -> tuple[str, ...]:
        """The values of `apiVersion` that serve the kind."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)


NETWORKING = "networking.istio.io"
ISTIO_GROUPS = (NETWORKING, "security.istio.io", "telemetry.istio.io", "extensions.istio.io")
_ISTIO = ("v1", "v1beta1", "v1alpha3")

KINDS = {
    kind.name: kind
    for kind in (
        Kind("Gateway", NETWORKING, _ISTIO, Gateway, dotted_names=False),
        Kind("VirtualService", NETWORKING, _ISTIO, VirtualService),
        Kind("DestinationRule", NETWORKING, _ISTIO, DestinationRule),
        Kind("ServiceEntry", NETWORKING, _ISTIO, ServiceEntry),
        Kind("WorkloadEntry", NETWORKING, _ISTIO, WorkloadEntry),
        Kind("Service", "", ("v1",), Service, dotted_names=False),
        Kind("Endpoints", "", ("v1",), Endpoints, has_spec=False),
        Kind("EndpointSlice", "discovery.k8s.io", ("v1", "v1beta1"), EndpointSlice, has_spec=False),
    )
}

# Istio's other kinds: known, so that a note and not a problem meets them.
OTHER_ISTIO_KINDS = (
    "AuthorizationPolicy",
    "EnvoyFilter",
    "PeerAuthentication",
    "ProxyConfig",
    "RequestAuthentication",
    "Sidecar",
    "Telemetry",
    "TrafficExtension",
    "WasmPlugin",
    "WorkloadGroup",
)


def field_paths(kind: str) -> Iterable[FieldPath]:
    """Every field of a kind, in the order of its model.

    Raises:
        KeyError: the kind is not one of `KINDS`.
    """
    return leaf_paths(KINDS[kind].model)
