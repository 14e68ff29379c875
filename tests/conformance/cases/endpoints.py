"""Endpoints of every kind: addresses, names, Unix domain sockets, and what the authority says."""

from __future__ import annotations

from dataclasses import replace

from meshproxy.snapshot import Cluster, Endpoint, Snapshot, SocketAddress

from ...proxy.support import unused_address
from ..exchanges import Backends, Case, Configuration, Exchange, exchange, forward, get, head, request, routed

_NO_NAME = "x" * 64
"""No DNS name has a label as long as this: nobody is asked for it."""


def _one_cluster(cluster: Cluster) -> Configuration:
    """All goes to this cluster."""

    def configured(backends: Backends) -> Snapshot:
        snapshot = routed(forward(cluster.name))(backends)
        return replace(snapshot, clusters=(*snapshot.clusters, cluster))

    return configured


def _by_name(*names: str) -> Configuration:
    """All goes to a cluster whose endpoints are these names, with the port of `a`."""

    def configured(backends: Backends) -> Snapshot:
        address = backends["a"]
        assert isinstance(address, SocketAddress)
        endpoints = tuple(Endpoint(replace(address, host=name)) for name in names)
        return _one_cluster(Cluster("named", endpoints, "STRICT_DNS"))(backends)

    return configured


def _goes_to(authority: str) -> Exchange:
    return get("/x", host=authority)


_REFUSED = unused_address()

CASES = (
    Case(
        "Unix domain socket",
        routed(forward("unix")),
        (
            get("/"),
            get("/", "connection: close"),
            exchange("two", head("/1") + head("/2"), methods=("GET", "GET")),
            exchange("POST", head("/", "content-length: 2", method="POST") + b"hi"),
        ),
    ),
    Case("STRICT_DNS", _by_name("localhost"), (get("/"), get("/", host="localhost"))),
    Case("STRICT_DNS of an address", _by_name("127.0.0.1"), (get("/"),)),
    Case("STRICT_DNS of a name that is none", _by_name(_NO_NAME), (get("/"), request("HEAD", "/"))),
    Case("STRICT_DNS of which one name is none", _by_name(_NO_NAME, "localhost"), (get("/"),)),
    Case(
        "forward proxy",
        _one_cluster(Cluster("anywhere", (), "DYNAMIC_FORWARD_PROXY")),
        (
            *map(
                _goes_to,
                (
                    *("127.0.0.1:<a>", "127.0.0.1:<b>", "localhost:<a>", "LOCALHOST:<a>"),
                    *(_NO_NAME, f"{_NO_NAME}:<a>"),
                ),
            ),
            replace(_goes_to(f"127.0.0.1:{_REFUSED.port}"), name="GET /x where nobody listens"),
            exchange("a URL", b"GET http://127.0.0.1:<a>/x?y HTTP/1.1\r\nhost: 127.0.0.1:<b>\r\n\r\n"),
            exchange("a URL with a user", b"GET http://u:p@127.0.0.1:<a>/ HTTP/1.1\r\nhost: 127.0.0.1:<b>\r\n\r\n"),
            exchange("POST", head("/", "content-length: 2", host="127.0.0.1:<a>", method="POST") + b"hi"),
            exchange(
                "one after the other",
                head("/1", host="127.0.0.1:<a>") + head("/2", host="127.0.0.1:<b>"),
                methods=("GET", "GET"),
            ),
        ),
    ),
)
