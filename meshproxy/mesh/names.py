"""How names in the resources become names of the mesh: short names, gateway names, cluster names, exportTo.

Sources: Istio's `ResolveShortnameToFQDN`, `resolveGatewayName`, `BuildSubsetKey` and the `exportTo` field of
VirtualService, DestinationRule and ServiceEntry.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

MESH_GATEWAY = "mesh"
"""The name that stands for every sidecar in a list of gateways, and the default of that list."""

ROOT_NAMESPACE = "istio-system"
"""Where DestinationRules hold for the whole mesh, and where an ingress gateway runs unless told otherwise."""

CLUSTER_DOMAIN = "cluster.local"

TRUST_DOMAIN = "cluster.local"
"""What the identities of workloads begin with, where nobody says otherwise."""


def fqdn(host: str, namespace: str) -> str:
    """`host` as the mesh knows it: a name without a dot is a service of `namespace`; all others stay."""
    if "." in host or host == "*" or is_ip_address(host):
        return host.lower()
    return service_hostname(host, namespace)


def service_hostname(name: str, namespace: str) -> str:
    """The host of a Kubernetes Service."""
    return f"{name}.{namespace}.svc.{CLUSTER_DOMAIN}".lower()


def short_names(host: str, namespace: str) -> tuple[str, ...]:
    """What else a client in `namespace` may call a service, by the search list of Kubernetes' DNS.

    `a.ns.svc.cluster.local` is `a.ns` and `a.ns.svc` everywhere and `a` to its neighbours; any host may be written
    with the dot that ends an absolute name. A wildcard is never so short that it covers names of other domains.
    """
    absolute = f"{host}."
    stem = host.removesuffix(f".svc.{CLUSTER_DOMAIN}")
    name, dot, own_namespace = stem.partition(".")
    if stem == host or not dot:
        return (absolute,)
    neighbourly = (name,) if own_namespace == namespace and not name.startswith("*") else ()
    return (absolute, *neighbourly, stem, f"{stem}.svc")


def gateway_name(name: str, namespace: str) -> str:
    """`namespace/name` of a gateway that a resource of `namespace` calls `name`; `mesh` stays `mesh`.

    Besides `name`, `./name` and `ns/name`, Istio still reads the old `name.ns` and
    `name.ns.svc.cluster.local`.
    """
    if name == MESH_GATEWAY:
        return name
    if "/" in name:
        prefix, _, rest = name.partition("/")
        return f"{namespace if prefix == '.' else prefix}/{rest}"
    short, dot, rest = name.partition(".")
    return f"{rest.partition('.')[0] if dot else namespace}/{short}"


def cluster_name(host: str, port: int, subset: str = "") -> str:
    """The name of the cluster that reaches `port` of `host`, as Istio gives it to Envoy."""
    return f"outbound|{port}|{subset}|{host}"


def inbound_cluster_name(port: int) -> str:
    """The name of the cluster that a sidecar reaches its own app by, for requests to the workload's `port`."""
    return f"inbound|{port}||"


def spiffe_id(service_account: str, trust_domain: str = TRUST_DOMAIN) -> str:
    """The identity of the workloads of a service account, `NAMESPACE/ACCOUNT`, as Istio writes it."""
    namespace, _, account = service_account.partition("/")
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"


def with_port(host: str, port: int) -> str:
    """`host:port`, as it stands in requests and in names of virtual hosts; an IPv6 address gets brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_ip_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address, without brackets."""
    if not text or (text[-1].isalpha() and ":" not in text):
        return False  # the common case, a name, without the cost of an exception
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Visibility:
    """Which namespaces see a resource: `exportTo` with its default and its shorthands resolved.

    `*` outranks all other entries, and after it `~` (nobody) does; `.` is the resource's own namespace.
    """

    everywhere: bool
    namespaces: frozenset[str]

    @classmethod
    def of(cls, export_to: Iterable[str], namespace: str) -> Visibility:
        """Read the `exportTo` of a resource of `namespace`; empty means `*`."""
        entries = {namespace if entry == "." else entry for entry in export_to}
        if not entries or "*" in entries:
            return cls(True, frozenset())
        return cls(False, frozenset() if "~" in entries else frozenset(entries))

    def includes(self, namespace: str) -> bool:
        """Whether a proxy or a resource of `namespace` sees the resource."""
        return self.everywhere or namespace in self.namespaces

    def overlaps(self, other: Visibility) -> bool:
        """Whether some namespace sees both."""
        if self.everywhere or other.everywhere:
            narrower = other if self.everywhere else self
            return narrower.everywhere or bool(narrower.namespaces)
        return not self.namespaces.isdisjoint(other.namespaces)
