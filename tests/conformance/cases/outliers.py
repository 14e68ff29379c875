"""Endpoints that are left out: ejected after failures, or never healthy. What one exchange does, the next ones meet."""

from __future__ import annotations

from meshproxy.snapshot import Snapshot, SocketAddress

from ...mesh.support import GATEWAY, service_entry, snapshot_of, virtual_service
from ...proxy.support import unused_address
from ..exchanges import Answer, Backends, Case, Configuration, Exchange, exchange, get, head, resources

# Between two tries Envoy may not have come to eject anybody yet.
_ROUTE = virtual_service("- {route: [{destination: {host: a}}], retries: {attempts: 0}}")
_TRIED_TWICE = virtual_service("- {route: [{destination: {host: a}}], retries: {attempts: 1}}")
_REFUSED = unused_address().port


def _detecting(settings: str, percent: int = 100) -> Configuration:
    """All goes to service `a`, with these settings of outlier detection; once ejected, it stays so."""
    return resources(_ROUTE, _rule(settings, percent))


def _rule(settings: str, percent: int = 100) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec:
  host: a.default.svc.cluster.local
  trafficPolicy: {{outlierDetection: {{maxEjectionPercent: {percent}, interval: 1h, {settings}}}}}
"""


def _nobody_listens(settings: str) -> Configuration:
    def configured(backends: Backends) -> Snapshot:
        return snapshot_of(GATEWAY, service_entry("a", port=_REFUSED), _TRIED_TWICE, _rule(settings))

    return configured


def probed(probe: str) -> Configuration:
    """All goes to a workload that is probed so at the start, and not again; `PORT` is where it listens."""

    def configured(backends: Backends) -> Snapshot:
        address = backends["a"]
        assert isinstance(address, SocketAddress)
        return snapshot_of(
            GATEWAY,
            virtual_service("- route: [{destination: {host: probed}}]"),
            _WORKLOAD.replace("PROBE", probe).replace("PORT", str(address.port)),
        )

    return configured


_WORKLOAD = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: probed}
spec:
  template: {labels: {app: probed}, ports: {http: PORT}}
  probe: {periodSeconds: 3600, PROBE}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: probed, annotations: {istio.io/autoRegistrationGroup: probed}}
spec: {address: 127.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: probed}
spec: {selector: {app: probed}, ports: [{name: http, port: 80}]}
"""


def _in_a_row(name: str, count: int, status: str) -> Exchange:
    answer = Answer((f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode(),))
    return exchange(name, *[head("/")] * count, answer=answer, methods=["GET"] * count)


def _grpc_in_a_row(name: str, count: int, status: str, grpc_status: str) -> Exchange:
    """As many calls of gRPC, of whose answers the head tells a status of gRPC's own."""
    answer = f"HTTP/1.1 {status}\r\ngrpc-status: {grpc_status}\r\ncontent-length: 0\r\n\r\n".encode()
    call = head("/", "content-type: application/grpc", "content-length: 0", method="POST")
    return exchange(name, *[call] * count, answer=Answer((answer,)), methods=["POST"] * count)


CASES = (
    Case(
        "consecutive 5xx errors",
        _detecting("consecutive5xxErrors: 3"),
        (
            _in_a_row("two 500s", 2, "500 Internal Server Error"),
            get("/", name="after two"),
            _in_a_row("three 503s", 3, "503 Service Unavailable"),
            get("/", name="after three"),
        ),
    ),
    Case(
        "five by default",
        _detecting("baseEjectionTime: 1h"),
        (
            _in_a_row("four 500s", 4, "500 Internal Server Error"),
            get("/", name="after four"),
            _in_a_row("five 500s", 5, "500 Internal Server Error"),
            get("/", name="after five"),
        ),
    ),
    Case(
        "consecutive gateway errors",
        _detecting("consecutiveGatewayErrors: 2, consecutive5xxErrors: 0"),
        (
            _in_a_row("six 500s", 6, "500 Internal Server Error"),
            get("/", name="after six"),
            _in_a_row("two 504s", 2, "504 Gateway Timeout"),
            get("/", name="after two"),
        ),
    ),
    Case(
        "consecutive errors, as they once were",
        _detecting("consecutiveErrors: 2"),
        (
            _in_a_row("six 500s", 6, "500 Internal Server Error"),
            get("/", name="after six"),
            _in_a_row("two 502s", 2, "502 Bad Gateway"),
            get("/", name="after two"),
        ),
    ),
    Case(
        "error codes",
        _detecting("consecutive5xxErrors: 2, outlierDetectionHttpErrorCodes: [404, 429]"),
        (
            _in_a_row("three 503s", 3, "503 Service Unavailable"),
            get("/", name="after 503s"),
            _in_a_row("two 404s", 2, "404 Not Found"),
            get("/", name="after 404s"),
        ),
    ),
    Case(
        "one error code",
        _detecting("consecutiveGatewayErrors: 1, consecutive5xxErrors: 2, outlierDetectionHttpErrorCodes: [404]"),
        (_in_a_row("two 404s", 2, "404 Not Found"), get("/", name="after 404s")),
    ),
    Case(
        "statuses of gRPC",
        _detecting("consecutive5xxErrors: 2"),
        (
            _grpc_in_a_row("two calls that are not found", 2, "503 Service Unavailable", "5"),
            _grpc_in_a_row("two calls that are well", 2, "503 Service Unavailable", "0"),
            get("/", name="after four calls"),
            _grpc_in_a_row("two calls that are unavailable", 2, "200 OK", "14"),
            get("/", name="after two that are unavailable"),
        ),
    ),
    Case(
        "gateway errors of gRPC",
        _detecting("consecutiveGatewayErrors: 2, consecutive5xxErrors: 0"),
        (
            _grpc_in_a_row("two internal errors", 2, "503 Service Unavailable", "13"),
            _grpc_in_a_row("two with a status nobody knows", 2, "503 Service Unavailable", "99"),
            get("/", name="after four calls that failed"),
            _grpc_in_a_row("two that took too long", 2, "200 OK", "4"),
            get("/", name="after two that took too long"),
        ),
    ),
    Case(
        "error codes, and statuses of gRPC that come to them",
        _detecting("consecutive5xxErrors: 2, outlierDetectionHttpErrorCodes: [404]"),
        (
            _grpc_in_a_row("two with the code", 2, "404 Not Found", "0"),
            _grpc_in_a_row("two that come to the code", 2, "200 OK", "5"),
            get("/", name="after four with error codes"),
        ),
    ),
    Case(
        "error codes, and statuses of gRPC that do not come to them",
        _detecting("consecutive5xxErrors: 2, outlierDetectionHttpErrorCodes: [404]"),
        (
            _grpc_in_a_row("two that come to 500", 2, "200 OK", "13"),
            get("/", name="after two that come to 500"),
        ),
    ),
    Case(
        "too few to eject one",
        _detecting("consecutive5xxErrors: 1", percent=99),
        (_in_a_row("three 500s", 3, "500 Internal Server Error"), get("/", name="after three")),
    ),
    Case(
        "refused and ejected",
        _nobody_listens("consecutiveGatewayErrors: 2"),
        (get("/", name="one, tried twice"), get("/", name="after two tries")),
    ),
    Case(
        "refused and ejected, with errors split",
        _nobody_listens(
            "consecutive5xxErrors: 1, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2"
        ),
        (get("/", name="one, tried twice"), get("/", name="after two tries")),
    ),
    Case("probed", probed("tcpSocket: {port: PORT}"), (get("/"),)),
    Case("probed where nobody listens", probed(f"tcpSocket: {{port: {_REFUSED}}}"), (get("/"),)),
)
