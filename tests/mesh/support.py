"""Meshes out of YAML text, and a matcher of requests so plain that it can be the judge of the real ones."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import re2

from meshproxy.mesh import Mesh, analyse, build_mesh, find_workload, gateway_snapshot, sidecar_snapshot
from meshproxy.mesh.retries import DEFAULT_RETRIES
from meshproxy.resources import Problem, load
from meshproxy.snapshot import (
    Cluster,
    Exact,
    HeaderMatcher,
    Prefix,
    Regex,
    Route,
    RouteAction,
    RouteMatch,
    Snapshot,
    SocketAddress,
    StringMatcher,
    VirtualHost,
    WeightedCluster,
)

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ['*']
"""


def service_entry(name: str, *, namespace: str = "default", port: int = 9000, extra: str = "") -> str:
    """A service `name.namespace.svc.cluster.local` with port 80, at 127.0.0.1 and `port`."""
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{name}.{namespace}.svc.cluster.local]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]
{extra}"""


def virtual_service(rules: str, *, name: str = "vs", hosts: str = "example.com", spec: str = "") -> str:
    """A VirtualService of gateway `gw`; `rules` is its `http`, written from the first column."""
    indented = "\n".join(f"  {line}" for line in rules.strip("\n").splitlines())
    gateways = "" if "gateways:" in spec else "gateways: [gw]"
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{hosts}]
  {gateways}
  {spec}
  http:
{indented}
"""


def mesh_of(*documents: str) -> Mesh:
    """The mesh of some YAML documents, all of which have to be well-formed."""
    loaded = load(["-"], stdin=io.StringIO("\n---\n".join(documents)))
    assert not loaded.problems, "\n".join(map(str, loaded.problems))
    return build_mesh(loaded.resources)


def snapshot_of(*documents: str, **options: Any) -> Snapshot:
    """What a gateway runs with some YAML documents."""
    return gateway_snapshot(mesh_of(*documents), **options)


APP = SocketAddress("127.0.0.1", 8080)
OUTBOUND = SocketAddress("127.0.0.1", 15001)
CALLER = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: caller, labels: {app: caller}}
spec: {address: 10.0.0.9}
"""


def sidecar_of(*documents: str, workload: str = "caller", **options: Any) -> Snapshot:
    """What the sidecar of a workload, `caller` unless said otherwise, runs with some YAML documents."""
    mesh = mesh_of(CALLER, *documents)
    return sidecar_snapshot(mesh, workload=find_workload(mesh, workload), app=APP, outbound=OUTBOUND, **options)


def problems_of(*documents: str) -> list[Problem]:
    """What is wrong with some YAML documents."""
    return list(analyse(mesh_of(*documents)))


def virtual_hosts(snapshot: Snapshot, listener: int = 0) -> dict[str, VirtualHost]:
    """The virtual hosts of a listener, by domain."""
    hosts = snapshot.listeners[listener].filter_chains[0].http.route_config.virtual_hosts
    return {domain: host for host in hosts for domain in host.domains}


def only_route(snapshot: Snapshot) -> Route:
    """The one route of the one virtual host."""
    (host,) = snapshot.listeners[0].filter_chains[0].http.route_config.virtual_hosts
    (route,) = host.routes
    return route


def forwarding(clusters: tuple[WeightedCluster, ...], **more: Any) -> RouteAction:
    """What a rule to these does that says nothing of timeouts and retries: Istio's defaults."""
    return RouteAction(clusters, max_grpc_timeout_s=0.0, retry_policy=DEFAULT_RETRIES, **more)


def only_cluster(snapshot: Snapshot) -> Cluster:
    """The one cluster."""
    (cluster,) = snapshot.clusters
    return cluster


def cluster_names(route: Route) -> list[str]:
    """Where a route leads."""
    assert isinstance(route.action, RouteAction)
    return [weighted.cluster for weighted in route.action.clusters]


@dataclass(frozen=True)
class Request:
    """A request, with what a gateway knows of the proxy that it came to."""

    path: str = "/"
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)


def meets(request: Request, match: RouteMatch) -> bool:
    """Whether a request meets a route match, by the words of the snapshot's documentation alone."""
    fold = not match.case_sensitive and not isinstance(match.path, Regex)
    path = request.path.lower() if fold else request.path
    wanted = type(match.path)(match.path.value.lower()) if fold else match.path
    return (
        _text_meets(path, wanted)
        and all(_header_meets(request.headers, header) for header in match.headers)
        and all(
            query.name in request.query and _text_meets(request.query[query.name], query.match)
            for query in match.query_parameters
        )
    )


def _header_meets(headers: dict[str, str], matcher: HeaderMatcher) -> bool:
    value = headers.get(matcher.name)
    if value is None and matcher.treat_missing_header_as_empty:
        value = ""
    return (value is not None and _text_meets(value, matcher.match)) != matcher.invert


def _text_meets(text: str, matcher: StringMatcher | None) -> bool:
    match matcher:
        case None:
            return True
        case Exact(value):
            return text == value
        case Prefix(value):
            return text.startswith(value)
        case regex:
            return re2.fullmatch(regex.value, text) is not None
