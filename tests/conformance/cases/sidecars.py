"""Sidecars: the HTTP proxy that an app calls others by, and the listeners where it is called."""

from __future__ import annotations

from dataclasses import replace

from ...mesh.support import CALLER
from ..exchanges import Case, Exchange, beside, exchange, get, head

_CALLED = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: called}
spec: {address: 10.0.0.8, labels: {app: called, version: v1}}
---
apiVersion: v1
kind: Service
metadata: {name: called}
spec:
  selector: {app: called}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: http-admin, port: 81, targetPort: 8081}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: called}
spec:
  hosts: [called]
  http: [{directResponse: {status: 418}}]
"""

_RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: b}, headers: {request: {set: {x-to: b}}}}]
  - match: [{uri: {prefix: /v2}, sourceLabels: {app: caller}}, {uri: {prefix: /other}, sourceLabels: {app: other}}]
    rewrite: {uri: /, authority: c.test}
    route: [{destination: {host: c}}]
  - match: [{uri: {prefix: /by-gateway}, gateways: [gw]}]
    redirect: {uri: /never}
  - route: [{destination: {host: a}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outside}
spec:
  hosts: ['*.outside.test']
  http: [{redirect: {authority: inside.test}}]
"""

_CALLS = (
    *(
        get("/", host=host)
        for host in (
            *(
                "a",
                "a:80",
                "a.default",
                "a.default.svc",
                "a.default.svc.cluster.local",
                "a.default.svc.cluster.local:80",
            ),
            *("A", "a.Default:80", "a.default.svc.cluster.local.", "a:81", "a.other", "b", "b.default:80", "10.0.0.8"),
            *("called", "x.outside.test", "x.outside.test:80", "outside.test", "", "nobody.test"),
        )
    ),
    *(get(path, host="a") for path in ("/v2/x?q=1", "/other", "/by-gateway", "/v/../v2")),
    get("/", "end-user: jason", host="a"),
    get("/", "end-user: jason2", host="a"),
    exchange("a URL", b"GET http://a/v2/x HTTP/1.1\r\nhost: b\r\nproxy-connection: keep-alive\r\n\r\n"),
    exchange("a URL in HTTP/1.0", b"GET http://a:80/v2/x HTTP/1.0\r\n\r\n"),
    exchange("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"),
    exchange("a body", head("/", "content-length: 2", host="b", method="POST") + b"hi"),
)

_INSIDE = (
    get("/"),
    get("/x/../y?q", host="called"),
    get("/", "x-forwarded-for: 1.2.3.4", "x-forwarded-proto: https", "x-request-id: mine"),
    get("/", "x-envoy-external-address: 1.2.3.4", "x-envoy-internal: true", "x-envoy-original-path: /p"),
    get("/", "x-envoy-decorator-operation: o", "x-envoy-peer-metadata: m", "x-forwarded-client-cert: By=x"),
    get("/", "x-envoy-attempt-count: 2", "x-envoy-expected-rq-timeout-ms: 5", "x-forwarded-host: h"),
    get("/", "x-forwarded-proto: ftp"),
    get("/", "x-forwarded-for:"),
    exchange("chunks", head("/", "transfer-encoding: chunked", method="PUT") + b"2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n"),
    exchange("two", head("/1") + head("/2", host="b"), methods=("GET", "GET")),
)


def _at(listener: int, *exchanges: Exchange) -> tuple[Exchange, ...]:
    """The same, sent to a listener of the snapshot."""
    return tuple(replace(one, listener=listener) for one in exchanges)


_CALLER = CALLER.replace("address:", "labels: {app: caller}, address:")

CASES = (
    Case("calls, REGISTRY_ONLY", beside("caller", _CALLER, _CALLED, _RULES, outbound_policy="REGISTRY_ONLY"), _CALLS),
    Case(
        "calls, ALLOW_ANY",
        beside("caller", _CALLER, _CALLED, _RULES),
        tuple(
            get("/v2", "end-user: jason", host=host)
            for host in ("a", "a.default:80", "x.outside.test", "127.0.0.1:<c>", "localhost:<b>")
        ),
    ),
    Case(
        "calls from inside",
        beside("caller", _CALLER, _RULES),
        tuple(
            get("/", line, host="b")
            for line in (
                *("x-forwarded-for: 1.2.3.4", "x-forwarded-proto: https", "x-request-id: mine"),
                *("x-envoy-internal: true", "x-envoy-original-path: /p"),
            )
        ),
    ),
    Case("calls to the app", beside("called", _CALLED, _RULES), _at(1, *_INSIDE)),
    Case(
        "calls to the app's other port", beside("called", _CALLED, _RULES), _at(2, get("/"), get("/", host="called:81"))
    ),
)
