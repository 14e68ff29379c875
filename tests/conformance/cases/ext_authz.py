"""Another service decides: backend `c` is asked, backend `a` is what the requests are for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meshproxy.snapshot import (
    AnyRequest,
    BufferSettings,
    Exact,
    ExtAuthz,
    HeaderMatcher,
    HeaderMutations,
    HeaderValue,
    Not,
    Prefix,
    Rbac,
    RbacPolicy,
    Route,
    RouteMatch,
    Suffix,
    UrlPath,
    VirtualHost,
)

from ...mesh.support import virtual_service
from ..exchanges import (
    Answer,
    Case,
    Configuration,
    Exchange,
    exchange,
    forward,
    get,
    head,
    of_hosts,
    request,
    resources,
)

_ANY = (AnyRequest(),)
_NOT_FREE = Rbac("DENY", (RbacPolicy("p", (Not(UrlPath(Prefix("/free"))),), _ANY),))
_GRPC = "content-type: application/grpc"

_ALLOWED = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-user: alice\r\nx-group: dev\r\nx-group: ops\r\nx-note: hello\r\n\r\n"
)
_LIKED = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-type: a/b\r\nhost: other.example\r\ncookie: a=b\r\n"
    b"set-cookie: a=1\r\nset-cookie: b=2\r\nserver: judge\r\ndate: x\r\n\r\nabc"
)
_DENIED = (
    b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 6\r\ncontent-type: text/html\r\nx-why: because\r\n"
    b"www-authenticate: Basic\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nserver: judge\r\ndate: x\r\n\r\nnot so"
)


def _asking(first: Route | None = None, **config: Any) -> Configuration:
    """Requests but those for /free are asked about; those with x-user go to `b`."""
    by_user = forward("b", RouteMatch(headers=(HeaderMatcher("x-user", Exact("alice")),)))
    host = VirtualHost("all", ("example.com",), (*((first,) if first else ()), by_user, forward("a")))
    return of_hosts(host, ext_authz=ExtAuthz("judge", "c", **{"rules": _NOT_FREE, **config}))


def _answered(one: Exchange, answer: bytes = _ALLOWED, name: str = "", **how: Any) -> Exchange:
    told = f"{one.name}, {name}" if name else one.name
    return replace(one, name=told, of={"c": Answer((answer,), **how)})


def _post(name: str, *pieces: bytes, answer: bytes = _ALLOWED) -> Exchange:
    return _answered(exchange(name, *pieces), answer)


def _sized(size: int) -> bytes:
    return head("/", f"content-length: {size}", method="POST") + b"x" * size


_CHUNKED = head("/", "transfer-encoding: chunked", method="POST")
_SETS = HeaderMutations(add=(HeaderValue("x-set", "%REQ(x-client)% of %PROTOCOL%"), HeaderValue("x-own", "ours")))

_REQUESTS = (
    _answered(get("/")),
    _answered(get("/free"), name="which is not asked about"),
    _answered(get("/free/../asked?q=1")),
    _answered(get("/", host="none.org"), name="which has no route"),
    _answered(request("HEAD", "/")),
    _answered(request("DELETE", "/")),
    _answered(request("OPTIONS", "/", "origin: x", "access-control-request-method: PUT")),
    _answered(get("/", _GRPC)),
    _answered(get("/", "authorization: Bearer x", "cookie: a=b", "x-client: 1", "x-own: theirs", "accept: */*")),
    _answered(get("/", "x-user: mallory", "x-group: root")),
    _answered(get("/", "x-client: 1", "x-client: 2")),
    _answered(get("/", "x-forwarded-for: 9.9.9.9", "x-request-id: mine")),
)
_BODIES = (
    _post("a body", _sized(5)),
    _post("as large as may be", _sized(10)),
    _post("one too large", _sized(11)),
    _post("far too large", _sized(100_000)),
    _post("in two pieces", head("/", "content-length: 6", method="POST") + b"abc", b"def"),
    _post("chunks", _CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
    _post("chunks with trailers", _CHUNKED + b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"),
    _post("chunks too large", _CHUNKED + b"6\r\nabcdef\r\n6\r\nghijkl\r\n0\r\n\r\n"),
    _post("no body", head("/", "content-length: 0", method="POST")),
    _post("a body that is not asked about", head("/free", "content-length: 20", method="POST") + b"y" * 20),
    _post("a body, denied", _sized(5), answer=_DENIED),
)
_DENIALS = (
    _answered(get("/"), _DENIED, "denied"),
    _answered(request("HEAD", "/"), _DENIED.removesuffix(b"not so"), "denied"),
    _answered(get("/", _GRPC), _DENIED, "denied"),
    _answered(get("/"), b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "403"),
    _answered(
        get("/"), b"HTTP/1.1 403 No\r\ncontent-length: 0\r\ncontent-type: a/b\r\nx-a: b\r\n\r\n", "403 with a type"
    ),
    _answered(
        get("/"),
        b"HTTP/1.1 403 No\r\ncontent-length: 1\r\nvary: a\r\nhost: h\r\nx-envoy-auth-headers-to-remove: x\r\n\r\n-",
        "403 with more",
    ),
    _answered(get("/"), b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", "302"),
    _answered(get("/"), b"HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n", "204"),
    _answered(get("/"), b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nno", "201"),
    _answered(
        get("/"), b"HTTP/1.1 429 Slow\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", "429 in chunks"
    ),
    _answered(get("/"), b"HTTP/1.1 403 No\r\n\r\nuntil the end", "until the end", end="close"),
    _answered(get("/"), b"HTTP/1.1 403 No\r\ncontent-length: 3\r\n\r\n\xff\x00\xfe", "bytes"),
)
_ERRORS = (
    _answered(get("/"), b"HTTP/1.1 500 Broken\r\ncontent-length: 2\r\nx-why: no\r\n\r\nno", "500"),
    _answered(get("/"), b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "503"),
    _answered(get("/", _GRPC), b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n", "500"),
    _answered(get("/"), b"nonsense\r\n\r\n", "no HTTP"),
    _answered(get("/"), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "broken off", end="reset"),
)
_LATE = Exchange(
    "late", (head("/"),), methods=("GET",), of={"c": Answer((b"HTTP/1.1 200 OK\r\n", b"\r\n"), pause_s=0.6)}
)

_MESH = """
extensionProviders:
- name: judge
  envoyExtAuthzHttp:
    service: c.default.svc.cluster.local
    port: 80
    includeRequestHeadersInCheck: [x-*]
    headersToUpstreamOnAllow: [x-user]
"""
_POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: istio-system}
spec:
  action: CUSTOM
  provider: {name: judge}
  rules:
  - to: [{operation: {paths: [/asked*], notMethods: [PUT]}}]
  - when: [{key: 'request.headers[x-ask]', values: ['yes']}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: istio-system}
spec:
  action: DENY
  rules: [{to: [{operation: {paths: ['*/denied']}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: users, namespace: istio-system}
spec:
  rules: [{when: [{key: 'request.headers[x-user]', values: [alice]}]}, {to: [{operation: {paths: [/free]}}]}]
"""
_RULES = """
- match: [{headers: {x-user: {exact: alice}}}]
  route: [{destination: {host: b}}]
- route: [{destination: {host: a}}]
"""

CASES = (
    Case(
        "CUSTOM, DENY and ALLOW",
        resources(virtual_service(_RULES), _MESH, _POLICIES),
        tuple(
            _answered(one, answer, name)
            for answer, name in ((_ALLOWED, "allowed"), (_DENIED, "denied"))
            for one in (
                get("/asked"),
                get("/asked/denied"),
                get("/free/denied"),
                get("/free"),
                get("/other"),
                get("/free", "x-ask: yes"),
                request("PUT", "/asked"),
            )
        ),
    ),
    Case("another decides", _asking(), (*_REQUESTS, *_DENIALS, *_ERRORS, *_BODIES[:1])),
    Case(
        "another would decide if it were no dry run",
        _asking(rules=Rbac("DENY", ()), shadow_rules=_NOT_FREE),
        (_answered(get("/"), _DENIED, "denied"), _answered(get("/free"), _DENIED, "denied")),
    ),
    Case(
        "another decides, told more",
        _asking(
            path_prefix="/check",
            allowed_headers=(Exact("cookie"), Prefix("x-cl"), Suffix("-OWN"), Exact("x-request-id"), Exact("x-set")),
            check_headers=_SETS,
        ),
        _REQUESTS,
    ),
    Case(
        "another decides, and tells more",
        _asking(
            allowed_upstream_headers=(Exact("x-user"), Prefix("X-G")),
            allowed_client_headers=(Exact("x-why"), Suffix("cookie")),
            allowed_client_headers_on_success=(Exact("x-note"), Exact("x-group")),
        ),
        (
            *_REQUESTS,
            *_DENIALS,
            _answered(get("/"), _ALLOWED[:-2] + b"x-envoy-auth-headers-to-remove: x-a, X-B,,host\r\n\r\n", "removes"),
            _answered(
                get("/", "x-a: 1", "x-b: 2", "x-c: 3"),
                _ALLOWED[:-2] + b"x-envoy-auth-headers-to-remove: x-a, X-B\r\n\r\n",
                "removes",
            ),
        ),
    ),
    Case(
        "another decides, and changes what it likes",
        _asking(
            allowed_upstream_headers=(Exact("host"), Suffix("cookie"), Suffix("type"), Suffix("time"), Exact("date")),
            allowed_client_headers_on_success=(Suffix("cookie"), Suffix("type"), Exact("host")),
        ),
        (
            _answered(get("/"), _LIKED, "all"),
            _post("all of a body", _sized(5), answer=_LIKED),
            _post("chunks and all", _CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", answer=_LIKED),
        ),
    ),
    Case(
        "another decides about routes",
        _asking(clear_route_cache=True, allowed_upstream_headers=(Exact("x-user"),)),
        _REQUESTS[:3],
    ),
    Case("another decides, fail open", _asking(failure_mode_allow=True), _ERRORS),
    Case("another decides, its own status", _asking(status_on_error=429), _ERRORS),
    Case("another decides, in time", _asking(timeout_s=0.2), (_LATE, _answered(get("/")))),
    Case("another decides by bodies", _asking(with_request_body=BufferSettings(10)), _BODIES),
    Case("another decides by the beginnings of bodies", _asking(with_request_body=BufferSettings(10, True)), _BODIES),
)
