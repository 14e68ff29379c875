"""What a case is made of: configuration, requests as bytes, and what the backends answer. Data only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from meshproxy.mesh import OutboundPolicy, find_workload, sidecar_snapshot
from meshproxy.snapshot import (
    Address,
    Cluster,
    Endpoint,
    FilterChain,
    HttpConnectionManager,
    Listener,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Snapshot,
    SocketAddress,
    VirtualHost,
    WeightedCluster,
)

from ..mesh.support import GATEWAY, OUTBOUND, mesh_of, service_entry, snapshot_of, virtual_service

CLIENT = "127.0.0.9"
"""Where requests come from: an address that no other test needs, and not the one that Envoy takes for its own."""

BACKENDS = ("a", "b", "c", "unix")
"""Every case has these, each a recording server of its own; the last listens on a Unix domain socket."""

SECURE = ("secure", "strange", "expired", "revoked", "mutual", "mutual12")
"""Those that ask for them have these too, which speak TLS."""

Backends = Mapping[str, Address]
Configuration = Callable[[Backends], Snapshot]


@dataclass(frozen=True)
class Answer:
    """What a backend sends when a request has come: `pieces`, with `pause_s` between them, and then what it does.

    `interim` is sent as soon as the head has come. With `early` all of it is, and the body is not recorded. By TLS, a
    connection that is cut ends without a word of it.
    """

    pieces: tuple[bytes, ...]
    end: Literal["keep", "close", "cut", "reset"] = "keep"
    interim: bytes = b""
    early: bool = False
    pause_s: float = 0.02


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
DEFAULT_ANSWER = Answer((OK,))


@dataclass(frozen=True)
class Exchange:
    """What a client sends on a new connection, and what it expects to read.

    It is sent to the `listener` of that place in the snapshot. The second and every later piece waits until something
    has come. `<a>` in a piece stands for the port of backend `a`, and so on. `methods` has one for each response that
    is to come. `tunnel` is how many bytes come after a 101; with `half_close` the client has no more to say once it has
    them, but reads on. The first requests that come to any backend have the answers `first`, all others that of their
    backend in `of`, or else `answer`.
    """

    name: str
    pieces: tuple[bytes, ...]
    answer: Answer = DEFAULT_ANSWER
    methods: tuple[str, ...] = ()
    tunnel: int = 0
    client: str = CLIENT
    half_close: bool = False
    listener: int = 0
    first: tuple[Answer, ...] = ()
    of: Mapping[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Case:
    """A configuration, and the exchanges tried with it. `yaml` tells people of one that nobody has written."""

    name: str
    configuration: Configuration
    exchanges: tuple[Exchange, ...]
    yaml: str = ""
    backends: tuple[str, ...] = BACKENDS

    def __repr__(self) -> str:
        return f"<Case {self.name}: {len(self.exchanges)} exchanges>"


def head(target: str = "/", *lines: str, method: str = "GET", host: str = "example.com") -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"host: {host}", *lines, "", ""]).encode("latin-1")


def exchange(
    name: str,
    *pieces: bytes,
    answer: Answer | bytes = DEFAULT_ANSWER,
    methods: Sequence[str] = (),
    tunnel: int = 0,
    client: str = CLIENT,
    half_close: bool = False,
) -> Exchange:
    """An exchange; without `methods` there is one request."""
    return Exchange(
        name,
        pieces,
        answer if isinstance(answer, Answer) else Answer((answer,)),
        tuple(methods) or (pieces[0].lstrip().partition(b" ")[0].decode("latin-1"),),
        tunnel,
        client,
        half_close,
    )


def get(target: str = "/", *lines: str, host: str = "example.com", name: str = "") -> Exchange:
    """A GET."""
    return request("GET", target, *lines, host=host, name=name)


def request(method: str, target: str, *lines: str, host: str = "example.com", name: str = "") -> Exchange:
    """A request without a body, named for what it is."""
    where = "" if host == "example.com" else f" at {host}"
    told = name or " | ".join([f"{method} {target}{where}", *lines])
    return exchange(told, head(target, *lines, method=method, host=host))


def rules(yaml: str, *more: str, hosts: str = "example.com") -> Configuration:
    """What a gateway runs with a VirtualService of these `http` rules; backend `a` is service `a`, and so on."""
    return resources(virtual_service(yaml, hosts=hosts), *more)


def resources(*documents: str) -> Configuration:
    """What a gateway runs with these resources, a Gateway `gw`, and a service for each backend."""
    return lambda backends: snapshot_of(GATEWAY, *services(backends), *documents)


def beside(workload: str, *documents: str, outbound_policy: OutboundPolicy = "ALLOW_ANY") -> Configuration:
    """What the sidecar of a workload runs with these resources and a service for each backend; its app is `a`.

    The first listener is the outbound one, those of the workload's ports follow in their order.
    """

    def configured(backends: Backends) -> Snapshot:
        mesh = mesh_of(*services(backends), *documents)
        return sidecar_snapshot(
            mesh,
            workload=find_workload(mesh, workload),
            app=backends["a"],
            outbound=OUTBOUND,
            outbound_policy=outbound_policy,
        )

    return configured


def services(backends: Backends) -> list[str]:
    """A ServiceEntry for each backend, by its name."""
    return [service_entry(name, port=one.port) for name, one in backends.items() if isinstance(one, SocketAddress)]


def routed(*routes: Route, **http: Any) -> Configuration:
    """A snapshot of one virtual host with these routes; without any, all goes to `a`."""

    def configured(backends: Backends) -> Snapshot:
        host = VirtualHost("all", ("*",), routes or (forward("a"),))
        return of_hosts(host, **http)(backends)

    return configured


def of_hosts(*hosts: VirtualHost, ignore_port: bool = True, **http: Any) -> Configuration:
    """A snapshot of these virtual hosts, with clusters `a`, `b`, `c`, and `empty`, which has no endpoint."""

    def configured(backends: Backends) -> Snapshot:
        manager = HttpConnectionManager(RouteConfiguration("routes", hosts, ignore_port), **http)
        clusters = [Cluster(name, (Endpoint(address),)) for name, address in backends.items()]
        listener = Listener("l", SocketAddress("127.0.0.1", 0), (FilterChain(manager),))
        return Snapshot((listener,), (*clusters, Cluster("empty", ())))

    return configured


def forward(cluster: str, match: RouteMatch = RouteMatch()) -> Route:  # noqa: B008
    return Route("", match, RouteAction((WeightedCluster(cluster),)))
