"""Time limits and retries: what a client gets, and what the upstream hears of it, however often."""

from __future__ import annotations

from dataclasses import replace

from meshproxy.snapshot import (
    CircuitBreakers,
    Cluster,
    Endpoint,
    FilterChain,
    HttpConnectionManager,
    Listener,
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Snapshot,
    SocketAddress,
    VirtualHost,
    WeightedCluster,
)

from ...proxy.support import unused_address
from ..exchanges import Answer, Backends, Case, Configuration, Exchange, exchange, get, head, rules

_GRPC = "content-type: application/grpc"
_NO_BODY = "content-length: 0"
_REFUSED = unused_address()


def _answer(status: int, *lines: str) -> Answer:
    return Answer(("\r\n".join([f"HTTP/1.1 {status} X", "content-length: 2", *lines, "", "no"]).encode(),))


_CLOSES = Answer((), "close")
_GARBAGE = Answer((b"garbage\r\n\r\n",), "close")
_HANGS = Answer((b"", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate"), pause_s=3.0)
_STALLS = Answer((b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nla", b"te"), pause_s=3.0)
_UNAVAILABLE = _answer(503)
_AGAIN = "x-again: 1"


def _first(exchange: Exchange, *answers: Answer, name: str = "") -> Exchange:
    return replace(exchange, first=answers, name=name or exchange.name)


def _always(exchange: Exchange, answer: Answer, name: str = "") -> Exchange:
    return replace(exchange, answer=answer, name=name or exchange.name)


def _rule(fields: str, *exchanges: Exchange) -> Case:
    rule = f"- {{route: [{{destination: {{host: a}}}}]{', ' * bool(fields)}{fields}}}"
    return Case(f"retries {fields or 'by default'}", rules(rule), exchanges)


def _post(*lines: str, body: bytes = b"hi") -> Exchange:
    return exchange("POST", head("/", f"content-length: {len(body)}", *lines, method="POST") + body)


def _call(*lines: str) -> Exchange:
    """A gRPC request."""
    return exchange(" | ".join(lines) or "gRPC", head("/", _GRPC, _NO_BODY, *lines, method="POST"))


def _grpc_timeout(value: str) -> Exchange:
    return _call(f"grpc-timeout: {value}")


_CHUNKED = exchange(
    "chunked",
    head("/", "transfer-encoding: chunked", method="POST") + b"2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n",
)
_WEBSOCKET = get("/", "connection: upgrade", "upgrade: websocket", name="websocket")


def _retried(retry_on: str, *exchanges: Exchange, more: str = "") -> Case:
    return _rule(f"retries: {{attempts: 2, backoff: 1ms, retryOn: '{retry_on}'{more}}}", *exchanges)


_STATUSES = (200, 404, 409, 425, 429, 499, 500, 502, 503, 504, 599)


def _by_status(retry_on: str) -> Case:
    """Which statuses a condition is about."""
    return _retried(retry_on, *(_first(get("/", name=f"{status}"), _answer(status)) for status in _STATUSES))


def _by_grpc_status(retry_on: str) -> Case:
    return _retried(
        retry_on,
        *(_first(_call(), _answer(200, f"grpc-status: {code}"), name=f"{code}") for code in (0, 1, 4, 8, 13, 14, 15)),
    )


def _snapshot(action: RouteAction, *, edge: bool = True, **cluster: object) -> Configuration:
    """All goes to a cluster `x` of `a`."""

    def configured(backends: Backends) -> Snapshot:
        route = Route("", RouteMatch(), action)
        host = VirtualHost("all", ("*",), (route,), include_request_attempt_count=True)
        manager = HttpConnectionManager(RouteConfiguration("routes", (host,)), use_remote_address=edge)
        clusters = (
            replace(Cluster("x", (Endpoint(backends["a"]),)), **cluster),  # type: ignore[arg-type]
            Cluster("dead", (Endpoint(SocketAddress(_REFUSED.host, _REFUSED.port)),)),
        )
        return Snapshot((Listener("l", SocketAddress("127.0.0.1", 0), (FilterChain(manager),)),), clusters)

    return configured


def _to(cluster: str, policy: RetryPolicy | None = None) -> RouteAction:
    return RouteAction((WeightedCluster(cluster),), max_grpc_timeout_s=0.0, retry_policy=policy)


_STEERING = (
    *("x-envoy-retry-on: 5xx", "x-envoy-retry-grpc-on: unavailable", "x-envoy-max-retries: 3"),
    *("x-envoy-upstream-rq-timeout-ms: 100", "x-envoy-upstream-rq-per-try-timeout-ms: 50"),
    *("x-envoy-expected-rq-timeout-ms: 7", "x-envoy-attempt-count: 9", "grpc-timeout: 1S"),
)
_STEERED = (
    _always(get("/", *_STEERING, name="503"), _UNAVAILABLE),
    _always(get("/", *_STEERING, name="slow"), replace(_UNAVAILABLE, pieces=(b"", *_UNAVAILABLE.pieces), pause_s=0.15)),
)

CASES = (
    _rule(
        "",
        _always(_post(), _CLOSES, "closed"),
        get("/"),
        get("/", "x-envoy-attempt-count: 7"),
        _always(get("/", name="503"), _UNAVAILABLE),
        _first(_call(), _answer(200, "grpc-status: 14"), name="gRPC unavailable"),
        _always(_call(), _answer(200, "grpc-status: 1"), "gRPC cancelled always"),
        _first(_call(), _answer(200, "grpc-status: 13"), name="gRPC internal"),
        *(_grpc_timeout(value) for value in ("1H", "5S", "0m", "1500000u", "99999999n", "bad", "123456789m", "7 S")),
        _always(_grpc_timeout("100m"), _HANGS, "gRPC out of time"),
    ),
    _retried(
        "5xx",
        _always(_post(), _CLOSES, "closed"),
        _always(_post(), _GARBAGE, "garbage"),
        _first(_post(), _CLOSES, _GARBAGE, name="recovers"),
        _first(get("/"), _UNAVAILABLE),
        _first(get("/", name="two"), _UNAVAILABLE, _answer(500)),
        _always(get("/", name="always"), _UNAVAILABLE),
        _first(_CHUNKED, _UNAVAILABLE),
        _first(_post(body=b"x" * 300_000), _UNAVAILABLE, name="large"),
        _first(_post(body=b"x" * 1_048_576), _UNAVAILABLE, name="as large as is kept"),
        _first(_post(body=b"x" * 1_048_577), _UNAVAILABLE, name="too large"),
        _first(exchange("HEAD", head("/", method="HEAD")), Answer((b"HTTP/1.1 503 X\r\ncontent-length: 5\r\n\r\n",))),
        _first(_WEBSOCKET, _UNAVAILABLE, _UNAVAILABLE, _answer(403), name="websocket"),
        _first(get("/", name="rate limited"), _answer(503, "x-envoy-ratelimited: true")),
        _first(get("/", name="overloaded"), _answer(503, "x-envoy-overloaded: true")),
        _first(
            get("/", name="interim"),
            Answer((b"HTTP/1.1 103 X\r\n\r\n", b"HTTP/1.1 503 X\r\ncontent-length: 2\r\n\r\nno")),
        ),
        _first(get("/", name="a stalling body"), Answer((b"HTTP/1.1 503 X\r\ncontent-length: 9\r\n\r\n",))),
    ),
    *map(
        _by_status,
        ("5xx", "gateway-error", "retriable-4xx", "404,429", "retriable-status-codes", "reset,connect-failure"),
    ),
    *map(_by_grpc_status, ("cancelled", "deadline-exceeded", "resource-exhausted", "internal,unavailable", "reset")),
    _retried(
        "envoy-ratelimited",
        *(_first(get("/", name=f"{status}"), _answer(status, "x-envoy-ratelimited: true")) for status in (200, 429)),
    ),
    *(
        _retried(condition, _first(_post(), _CLOSES, name="closed"), _first(_post(), _GARBAGE, name="garbage"))
        for condition in ("reset", "reset-before-request", "connect-failure", "gateway-error", "refused-stream")
    ),
    _rule("retries: {attempts: 0}", _always(_post(), _CLOSES, "closed"), _always(get("/"), _UNAVAILABLE)),
    _rule(
        "timeout: 400ms",
        get("/"),
        _always(_post(), _HANGS, "hangs"),
        _always(_post(), _STALLS, "stalls in the body"),
        _always(_call(), _HANGS, "gRPC hangs"),
        *(_grpc_timeout(value) for value in ("100m", "1S", "0m", "")),
    ),
    _rule(
        "timeout: 5s, retries: {attempts: 1, perTryTimeout: 400ms, retryOn: 5xx, backoff: 1ms}",
        _always(_post(), _HANGS, "hangs"),
        _first(_post(), _HANGS, name="hangs once"),
        _first(_call(), _HANGS, name="gRPC hangs once"),
        _always(get("/", name="slow body"), replace(_STALLS, pause_s=0.6)),
    ),
    _rule("retries: {attempts: 1, perTryTimeout: 400ms, retryOn: connect-failure}", _always(_post(), _HANGS, "hangs")),
    _rule("timeout: 400ms, retries: {attempts: 1, perTryTimeout: 400ms, retryOn: 5xx}", _always(_post(), _HANGS)),
    _rule(
        "headers: {request: {set: {x-envoy-retry-on: 5xx, x-envoy-max-retries: '3', "
        "x-envoy-upstream-rq-timeout-ms: '9', x-envoy-expected-rq-timeout-ms: '7'}}}",
        _always(get("/", name="503"), _UNAVAILABLE),
    ),
    _rule(
        "headers: {request: {set: {x-envoy-retry-on: 'retriable-status-codes,retriable-headers', "
        "x-envoy-retriable-status-codes: '404,410', x-envoy-retriable-header-names: 'x-again,x-more'}}}",
        *(_first(get("/", name=f"{status}"), _answer(status)) for status in (404, 410, 500)),
        _first(get("/", name="a header"), _answer(200, _AGAIN)),
    ),
    _rule(
        "timeout: 5s, retries: {attempts: 1, perTryTimeout: 2s, retryOn: 5xx, backoff: 1ms}, "
        "headers: {request: {remove: [x-envoy-attempt-count, x-envoy-expected-rq-timeout-ms]}}",
        _first(get("/"), _UNAVAILABLE),
    ),
    Case("retries steered by clients", _snapshot(_to("x")), _STEERED),
    Case("retries steered inside the mesh", _snapshot(_to("x"), edge=False), _STEERED),
    Case(
        "retries of what is refused", _snapshot(_to("dead", RetryPolicy(("connect-failure",), 2))), (get("/"), _post())
    ),
    Case(
        "retries of what is refused, not sent",
        _snapshot(_to("dead", RetryPolicy(("reset-before-request",)))),
        (get("/"),),
    ),
    Case(
        "retries of what is refused, but for others", _snapshot(_to("dead", RetryPolicy(("cancelled",)))), (get("/"),)
    ),
    Case(
        "no retries in the cluster",
        _snapshot(_to("x", RetryPolicy(("5xx",))), circuit_breakers=CircuitBreakers(max_retries=0)),
        (_always(_post(), _CLOSES, "closed"), _always(get("/"), _UNAVAILABLE)),
    ),
)
