"""The pages that tell how it goes, as Envoy's admin interface names them
(https://www.envoyproxy.io/docs/envoy/latest/operations/admin). They only show; none changes anything.

The admin interface is a service like any other, behind a connection manager of its own.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable, Iterable, Mapping

from .. import snapshot
from ..snapshot import HttpConnectionManager, RouteConfiguration, Snapshot
from ..telemetry.metrics import Metrics
from .http.message import Request, Response
from .routing.matchers import query_parameter
from .tls.secrets import RunningSecret
from .upstream.cluster import Cluster
from .upstream.forward_proxy import ForwardProxy
from .upstream.host import Host


class State(enum.Enum):
    """A worker's life, as `/ready` tells it."""

    INITIALIZING = "PRE_INITIALIZING"
    LIVE = "LIVE"
    DRAINING = "DRAINING"


class Admin:
    """The admin pages, a service."""

    http = HttpConnectionManager(RouteConfiguration("admin", ()))

    def __init__(
        self,
        snapshot: Snapshot,
        clusters: Mapping[str, Cluster | ForwardProxy],
        metrics: Metrics,
        state: Callable[[], State],
        trouble: Callable[[], str | None],
        secrets: Iterable[RunningSecret] = (),
    ) -> None:
        self._snapshot = snapshot
        self._clusters = clusters
        self._metrics = metrics
        self._state = state
        self._trouble = trouble
        self._secrets = secrets
        self._pages: dict[bytes, Callable[[Request], Response]] = {
            b"/": self._index,
            b"/certs": self._certs,
            b"/clusters": self._clusters_page,
            b"/config_dump": self._config_dump,
            b"/ready": self._ready,
            b"/stats/prometheus": self._prometheus,
        }

    async def __call__(self, request: Request) -> Response:
        page = self._pages.get(request.path.partition(b"?")[0])
        if page is None:
            return _text(404, f"no such page; these are: {' '.join(path.decode() for path in self._pages)}\n")
        if request.method not in (b"GET", b"HEAD"):
            response = _text(405, "the admin pages only show: use GET\n")
            response.headers.append((b"allow", b"GET, HEAD"))
            return response
        return page(request)

    def _index(self, request: Request) -> Response:
        return _text(200, "".join(f"{path.decode()}\n" for path in self._pages))

    def _ready(self, request: Request) -> Response:
        state, trouble = self._state(), self._trouble()
        if state is not State.LIVE:
            return _text(503, f"{state.value}{'' if trouble is None else f': {trouble}'}\n")
        return _text(200, f"{state.value}\n") if trouble is None else _text(503, f"{trouble}\n")

    def _prometheus(self, request: Request) -> Response:
        from ..telemetry.prometheus import render  # nobody waits at the start for what may never be asked for

        return _response(200, b"text/plain; version=0.0.4; charset=utf-8", render(self._metrics))

    def _certs(self, request: Request) -> Response:
        from .tls.certs import certificates_page  # what reads certificates is there where there are some

        return _json(certificates_page(self._secrets))

    def _config_dump(self, request: Request) -> Response:
        return _json(self._snapshot.as_dict())

    def _clusters_page(self, request: Request) -> Response:
        """Envoy's lines `cluster::address::name::value`, or with `?format=json` the same as JSON."""
        shown = {
            name: _limits(cluster.config) | {host.name: _host_figures(host) for host in cluster.hosts}
            for name, cluster in self._clusters.items()
        }
        if query_parameter(request.path, b"format") == b"json":
            return _json(shown)
        return _text(
            200,
            "".join(
                f"{cluster}::{host}::{name}::{value}\n"
                for cluster, hosts in shown.items()
                for host, figures in hosts.items()
                for name, value in figures.items()
            ),
        )


def _limits(cluster: snapshot.Cluster) -> dict[str, dict[str, int | str]]:
    """As Envoy has them among the hosts, but for what is without limit."""
    limits = {name: limit for name, limit in dataclasses.asdict(cluster.circuit_breakers).items() if limit is not None}
    return {"default_priority": limits} if limits else {}


def _host_figures(host: Host) -> dict[str, int | str]:
    return {
        "cx_active": host.connections,
        "cx_idle": host.idle_count,
        "cx_connect_fail": host.connect_failures,
        "cx_total": host.connections_total,
        "rq_active": host.active,
        "rq_error": host.errors,
        "rq_total": host.requests,
        "health_flags": _health(host),
        "weight": host.weight,
        "region": host.locality.region,
        "zone": host.locality.zone,
        "sub_zone": host.locality.sub_zone,
        "priority": host.priority,
    }


def _health(host: Host) -> str:
    """As Envoy writes it: `healthy`, or the flags, a slash before each."""
    return "".join(f"/{flag.name}".lower() for flag in host.health_flags) or "healthy"


def _text(status: int, text: str) -> Response:
    return _response(status, b"text/plain; charset=utf-8", text.encode())


def _json(value: object) -> Response:
    return _response(200, b"application/json", json.dumps(value, indent=1).encode() + b"\n")


def _response(status: int, content_type: bytes, body: bytes) -> Response:
    return Response(status, [(b"content-type", content_type), (b"content-length", b"%d" % len(body))], body)
