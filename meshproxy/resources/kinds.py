"""The table of kinds: which are known, in which API versions, by which model, and which are not honoured yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .destination_rule import DestinationRule
from .fields import FieldPath, leaf_paths, nearest
from .gateway import Gateway
from .kubernetes import Endpoints, EndpointSlice, Service
from .mesh_config import MeshConfig
from .model import Model, NotYet
from .proxy_config import ProxyConfig
from .secret import Secret
from .security import AuthorizationPolicy, PeerAuthentication, RequestAuthentication
from .service_entry import ServiceEntry, WorkloadEntry
from .sidecar import Sidecar
from .telemetry import Telemetry
from .traffic_limit import TrafficLimit
from .virtual_service import VirtualService
from .workload_group import WorkloadGroup


class Kind(NamedTuple):
    """A kind that is known. Its fields stand below `spec`, or at the top where `has_spec` is False.

    `not_yet` says what is missing where nothing of the kind is honoured: its resources are skipped with a note.
    """

    name: str
    group: str
    versions: tuple[str, ...]
    model: type[Model]
    has_spec: bool = True
    dotted_names: bool = True
    not_yet: str = ""

    @property
    def is_istio(self) -> bool:
        """Whether the kind is Istio's own."""
        return self.group in ISTIO_GROUPS

    @property
    def api_versions(self) -> tuple[str, ...]:
        """The values of `apiVersion` that serve the kind."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)


NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
TELEMETRY = "telemetry.istio.io"
ISTIO_GROUPS = (NETWORKING, SECURITY, TELEMETRY, "extensions.istio.io")
_NETWORKING_VERSIONS = ("v1", "v1beta1", "v1alpha3")
_SECURITY_VERSIONS = ("v1", "v1beta1")

KINDS = {
    kind.name: kind
    for kind in (
        Kind("Gateway", NETWORKING, _NETWORKING_VERSIONS, Gateway, dotted_names=False),
        Kind("VirtualService", NETWORKING, _NETWORKING_VERSIONS, VirtualService),
        Kind("DestinationRule", NETWORKING, _NETWORKING_VERSIONS, DestinationRule),
        Kind("ServiceEntry", NETWORKING, _NETWORKING_VERSIONS, ServiceEntry),
        Kind("WorkloadEntry", NETWORKING, _NETWORKING_VERSIONS, WorkloadEntry),
        Kind("Service", "", ("v1",), Service, dotted_names=False),
        Kind("Secret", "", ("v1",), Secret, has_spec=False),
        Kind("Endpoints", "", ("v1",), Endpoints, has_spec=False),
        Kind("EndpointSlice", "discovery.k8s.io", ("v1", "v1beta1"), EndpointSlice, has_spec=False),
        Kind("MeshConfig", "mesh.istio.io", ("v1alpha1",), MeshConfig),
        Kind("TrafficLimit", "meshproxy.io", ("v1alpha1",), TrafficLimit),
        Kind("Sidecar", NETWORKING, _NETWORKING_VERSIONS, Sidecar, not_yet="settings of sidecars"),
        Kind("WorkloadGroup", NETWORKING, _NETWORKING_VERSIONS, WorkloadGroup),
        Kind("ProxyConfig", NETWORKING, ("v1beta1",), ProxyConfig, not_yet="settings of proxies"),
        Kind("AuthorizationPolicy", SECURITY, _SECURITY_VERSIONS, AuthorizationPolicy),
        Kind("RequestAuthentication", SECURITY, _SECURITY_VERSIONS, RequestAuthentication),
        Kind("PeerAuthentication", SECURITY, _SECURITY_VERSIONS, PeerAuthentication),
        Kind(
            "Telemetry",
            TELEMETRY,
            ("v1", "v1alpha1"),
            Telemetry,
            not_yet="settings of metrics, traces and access logs",
        ),
    )
}

# Istio's kinds that have no model: known by name, so that a note and not a problem meets them.
OTHER_ISTIO_KINDS = ("EnvoyFilter", "TrafficExtension", "WasmPlugin")


def kind_named(name: str) -> Kind:
    """The kind of that name, whatever the case of its letters.

    Raises:
        LookupError: there is none; its message names the nearest one.
    """
    found = next((kind for kind in KINDS.values() if kind.name.lower() == name.lower()), None)
    if found is None:
        near = nearest(name, KINDS)
        raise LookupError(
            f"{name!r} is not a kind; " + (f"did you mean {near}?" if near else f"use {', '.join(KINDS)}")
        )
    return found


def field_paths(kind: str) -> Iterable[FieldPath]:
    """Every field of a kind, in the order of its model.

    Raises:
        KeyError: the kind is not one of `KINDS`.
    """
    known = KINDS[kind]
    return leaf_paths(known.model, above=NotYet(known.not_yet) if known.not_yet else None)
