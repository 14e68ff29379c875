"""Header changes, and what a gateway itself writes into requests and responses."""

from __future__ import annotations

from meshproxy.snapshot import HeaderMutations, HeaderValue, Route, RouteAction, RouteMatch, WeightedCluster

from ..exchanges import Case, Exchange, exchange, get, head, request, routed, rules


def _changes(name: str, changes: str, *exchanges: Exchange) -> Case:
    yaml = f"""
- headers: {{request: {changes}, response: {changes}}}
  route: [{{destination: {{host: a}}}}]
"""
    return Case(name, rules(yaml), exchanges)


def _answered(name: str, *lines: str) -> Exchange:
    """An exchange in which the backend's response has these lines."""
    response = "\r\n".join(["HTTP/1.1 200 OK", *lines, "content-length: 2", "", "ok"])
    return exchange(name, head("/", "x-a: q", "x-a: r"), answer=response.encode("latin-1"))


_PLAIN = get("/")
_REPEATED = _answered("repeated names", "x-a: 1", "x-b: 2", "x-a: 3")
_FORGED = [
    *("x-envoy-original-path: /p", "x-envoy-original-host: h", "x-envoy-internal: true", "x-envoy-max-retries: 3"),
    *("x-envoy-retry-on: 5xx", "x-envoy-upstream-rq-timeout-ms: 1", "x-envoy-expected-rq-timeout-ms: 5"),
    *("x-envoy-decorator-operation: op", "x-envoy-force-trace: 1", "x-forwarded-client-cert: By=x"),
    *("x-envoy-downstream-service-cluster: c", "x-envoy-downstream-service-node: n", "x-envoy-ip-tags: t"),
    *("x-envoy-upstream-alt-stat-name: s", "x-envoy-hedge-on-per-try-timeout: true", "x-envoy-attempt-count: 7"),
    *("x-envoy-external-address: 1.2.3.4", "x-envoy-foo: kept", "x-envoy-retry-grpc-on: cancelled"),
    *("x-envoy-upstream-rq-per-try-timeout-ms: 1", "x-envoy-upstream-stream-duration-ms: 1"),
    *("x-envoy-upstream-rq-timeout-alt-response: 1", "x-envoy-retriable-status-codes: 404"),
    *("x-envoy-retriable-header-names: x", "x-envoy-peer-metadata: m", "x-envoy-peer-metadata-id: i"),
    *("x-forwarded-host: h", "x-forwarded-port: 1", "forwarded: for=1.2.3.4", "x-real-ip: 1.2.3.4"),
    *("x-client-trace-id: t", "x-b3-traceid: 1", "traceparent: 00-1-1-01", "proxy-authorization: Basic x"),
    *("x-forwarded-proto: https", "x-forwarded-for: 1.2.3.4", "x-request-id: mine", "x-envoy-host-redirect: y"),
    *("via: 1.1 other", "early-data: 1", "upgrade-insecure-requests: 1", "content-type: text/plain", "origin: o"),
]
_QUOTING = ", ".join(
    f"x-{number}: '{value}'"
    for number, value in enumerate(
        [
            *("%REQ(x-a)%", "%REQ(:path)%", "%REQ(:method)%", "%REQ(:authority)%", "%REQ(x-missing)%", "100%%"),
            *("%PROTOCOL%", "%UPSTREAM_HOST%", "%DOWNSTREAM_REMOTE_ADDRESS%", "%DOWNSTREAM_LOCAL_ADDRESS%"),
            *("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "a%REQ(x-a)%b%%c", "%REQ(host)%", "%REQ(X-A)%"),
            *("%UPSTREAM_CLUSTER%", "%ROUTE_NAME%", "%REQ(x-forwarded-for)%", "%REQ(:scheme)%"),
        ]
    )
)


def _levels() -> Route:
    """A destination's changes and its route's, in each other's way."""
    inner = HeaderMutations(
        ("x-gone",), (HeaderValue("x-a", "inner"), HeaderValue("x-b", "inner", True), HeaderValue("x-c", "inner"))
    )
    outer = HeaderMutations(
        ("x-c",), (HeaderValue("x-a", "outer"), HeaderValue("x-b", "outer", True), HeaderValue("x-gone", "back"))
    )
    action = RouteAction((WeightedCluster("a", 1, inner, inner),))
    return Route("levels", RouteMatch(), action, outer, outer)


CASES = (
    _changes("set", "{set: {x-a: new}}", _PLAIN, _REPEATED),
    _changes("add", "{add: {x-a: new}}", _PLAIN, _REPEATED),
    _changes("remove", "{remove: [x-a]}", _PLAIN, _REPEATED),
    _changes("remove and set", "{remove: [x-a], set: {x-a: new}}", _PLAIN, _REPEATED),
    _changes("remove and add", "{remove: [x-a], add: {x-a: new}}", _PLAIN, _REPEATED),
    _changes("set and add", "{set: {x-a: one}, add: {x-a: two}}", _PLAIN, _REPEATED),
    _changes("set in mixed case", "{set: {X-A: new}, remove: [X-B]}", _REPEATED),
    _changes(
        "what Envoy knows",
        "{add: {accept: text/plain, user-agent: me, cache-control: no-store, x-forwarded-for: 9.9.9.9}}",
        _PLAIN,
        get("/", "accept: */*", "user-agent: you"),
        _answered("cache-control", "cache-control: private"),
    ),
    _changes(
        "what the proxy writes",
        "{set: {x-request-id: mine, x-forwarded-proto: ftp, server: me, date: never}}",
        _PLAIN,
        get("/", "x-request-id: theirs"),
        _answered("server and date", "server: they", "date: then"),
    ),
    _changes(
        "removal of what the proxy writes",
        "{remove: [x-request-id, x-forwarded-for, x-forwarded-proto, server, date, x-envoy-upstream-service-time]}",
        _PLAIN,
        _answered("server and date", "server: they", "date: then"),
    ),
    _changes("empty values", "{set: {x-a: ''}, add: {x-b: ''}}", _PLAIN, _REPEATED),
    _changes("empty quotations", "{set: {x-a: '%REQ(x-none)%'}, add: {x-b: '%REQ(x-none)%'}}", _PLAIN, _REPEATED),
    _changes(
        "quotations", f"{{set: {{{_QUOTING}}}}}", get("/p?q=1", "x-a: v"), _REPEATED, get("/%41/../b?c", "x-a: v")
    ),
    Case("levels", routed(_levels()), (_PLAIN, get("/", "x-a: 1", "x-b: 1", "x-c: 1", "x-gone: 1"), _REPEATED)),
    Case(
        "host set by a header change",
        rules("- headers: {request: {set: {host: new.test}}}\n  route: [{destination: {host: a}}]"),
        (_PLAIN,),
    ),
    Case(
        "authority set by a header change",
        rules("- headers: {request: {set: {':authority': new.test}}}\n  route: [{destination: {host: a}}]"),
        (_PLAIN, get("/", host="example.com:80")),
    ),
    Case(
        "a request's own",
        routed(),
        (
            *(get("/", line) for line in _FORGED),
            get("/", "x-forwarded-for: 1.2.3.4, 10.0.0.1", "x-forwarded-for: 5.6.7.8"),
            get("/", "x-forwarded-for:"),
            exchange("from 127.0.0.1", head("/"), client="127.0.0.1"),
            get("/", "x-request-id: 6f1b8c1e-1f6e-4d0c-9c5d-3c1e1f3a2b4c"),
            get("/", "x-mixed-Case: Kept Value"),
            get("/", "x-spaces:  a  b  "),
            get("/", "x-tab: a\tb"),
            get("/", "x-bytes: \xe9\xff"),
            get("/", "x-a: 1", "x-b: 2", "x-a: 3"),
            get("/", "cookie: a=1", "cookie: b=2"),
            get("/", "accept: a", "accept: b"),
            get("/", "user-agent: a", "user-agent: b"),
            get("/", "te: trailers"),
            get("/", "te: gzip, trailers"),
            get("/", "te: gzip"),
            get("/", "te: trailers;q=1"),
            get("/", "trailer: x"),
            get("/", "keep-alive: timeout=5"),
            get("/", "proxy-connection: keep-alive"),
            get("/", "connection: x-hop", "x-hop: 1"),
            get("/", "connection: keep-alive, x-hop", "x-hop: 1", "x-kept: 1"),
            get("/", "connection: close"),
            get("/", "connection: Close, x-hop", "x-hop: 1"),
            get("/", "connection: cookie, authorization", "cookie: a", "authorization: b"),
            get("/", "connection: host"),
            get("/", "connection: x-forwarded-for", "x-forwarded-for: 1.2.3.4"),
            get("/", "connection: x-forwarded-proto"),
            get("/", "connection: content-length, te", "te: trailers"),
            get("/", "upgrade: h2c", "connection: upgrade, http2-settings", "http2-settings: AAA"),
            get("/", "upgrade: h2c", "connection: upgrade", "http2-settings: AAA"),
            get("/", "upgrade: h2c", "http2-settings: AAA"),
            get("/", "upgrade: foo", "connection: upgrade"),
            get("/", "upgrade: websocket"),
            request("OPTIONS", "/", "access-control-request-method: GET"),
            request("PUT", "/"),
            request("PATCH", "/", "content-length: 0"),
            get("/", "content-length: 0"),
        ),
    ),
    Case(
        "a response's own",
        routed(),
        (
            _answered("server", "server: nginx"),
            _answered("date", "date: yesterday"),
            _answered("service time", "x-envoy-upstream-service-time: 99"),
            _answered("other x-envoy", "x-envoy-foo: 1", "x-envoy-attempt-count: 2", "x-envoy-overloaded: true"),
            _answered("keep-alive", "keep-alive: timeout=5", "proxy-connection: x"),
            _answered("connection", "connection: keep-alive"),
            _answered("connection close", "connection: close"),
            _answered("nominated", "connection: x-hop", "x-hop: 1"),
            _answered("upgrade", "upgrade: h2c"),
            _answered("cookies", "set-cookie: a=1", "set-cookie: b=2"),
            _answered("mixed case", "X-Mixed: Value", 'ETag: "x"'),
            _answered("empty", "x-empty:"),
            _answered("bytes", "x-bytes: \xe9"),
            _answered("vary", "vary: a", "vary: b"),
            _answered("te and trailer", "te: trailers", "trailer: x"),
            _answered("alt-svc", 'alt-svc: h3=":443"', "strict-transport-security: max-age=1"),
            _answered("location", "location: http://a/"),
            _answered("x-forwarded", "x-forwarded-for: 1", "x-request-id: r"),
        ),
    ),
)
