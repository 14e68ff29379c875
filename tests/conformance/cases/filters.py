"""What filters do: faults, CORS, mirrors, rate limits, buffering, and how they come together."""

from __future__ import annotations

from meshproxy.snapshot import (
    Buffer,
    CorsPolicy,
    DirectResponseAction,
    Exact,
    FaultAbort,
    FaultInjection,
    FractionalPercent,
    LocalRateLimit,
    Prefix,
    RateLimitDescriptor,
    Regex,
    Route,
    RouteAction,
    RouteMatch,
    TokenBucket,
    VirtualHost,
    WeightedCluster,
)

from ..exchanges import Answer, Case, Exchange, exchange, forward, get, head, of_hosts, request, routed, rules

_GRPC = "content-type: application/grpc"
_ORIGIN = "origin: http://o.test"
_PREFLIGHT = "access-control-request-method: PUT"


def _rule(fields: str, *exchanges: Exchange) -> Case:
    """A rule to `a` with some more fields."""
    return Case(f"rule {fields}", rules(f"- {{route: [{{destination: {{host: a}}}}], {fields}}}"), exchanges)


def _abort(how: str, *exchanges: Exchange) -> Case:
    return _rule(f"fault: {{abort: {{{how}, percentage: {{value: 100}}}}}}", *exchanges)


def _preflight(*lines: str, origin: str = "http://o.test") -> Exchange:
    return request("OPTIONS", "/", f"origin: {origin}", _PREFLIGHT, *lines)


def _post(name: str, size: int, *lines: str, target: str = "/") -> Exchange:
    return exchange(name, head(target, f"content-length: {size}", *lines, method="POST") + b"x" * size)


def _chunked(name: str, *pieces: bytes) -> Exchange:
    first, *others = pieces
    return exchange(name, head("/", "transfer-encoding: chunked", method="POST") + first, *others)


_CHANGES = "headers: {response: {set: {x-r: '1', access-control-allow-origin: mine}, remove: [x-none]}}"

_FAULTS = (
    _abort("httpStatus: 503", get(), get("/", _GRPC), request("HEAD", "/"), _post("POST", 3)),
    *(_abort(f"httpStatus: {status}", get(), get("/", _GRPC)) for status in (200, 404, 418, 429, 500, 599)),
    _abort("httpStatus: 204", get()),
    *(_abort(f"grpcStatus: {status}", get(), get("/", _GRPC)) for status in ("OK", "PERMISSION_DENIED", "UNAVAILABLE")),
    _rule("fault: {abort: {httpStatus: 503, percentage: {value: 0}}}", get()),
    _rule("fault: {abort: {httpStatus: 503}}", get()),
    _rule("fault: {delay: {fixedDelay: 20ms, percentage: {value: 100}}}", get(), _post("POST", 3)),
    _rule("fault: {delay: {fixedDelay: 20ms, percent: 100}}", get()),
    _rule("fault: {delay: {fixedDelay: 1h}}", get()),
    _rule(
        "fault: {delay: {fixedDelay: 20ms, percent: 100}, abort: {httpStatus: 500, percentage: {value: 100}}}",
        get(),
        get("/", _GRPC),
    ),
    _rule(f"fault: {{abort: {{httpStatus: 503, percentage: {{value: 100}}}}}}, {_CHANGES}", get(), get("/", _GRPC)),
    Case(
        "a fault where destinations have changes of their own",
        rules("""
- route:
  - {destination: {host: a}, weight: 1, headers: {response: {set: {x-d: '1', x-r: d}}}}
  - {destination: {host: b}, weight: 0}
  headers: {response: {set: {x-r: r}}}
  fault: {abort: {httpStatus: 503, percentage: {value: 100}}}
"""),
        (get(),),
    ),
    Case(
        "a fault before a cluster that is not there",
        routed(
            Route(
                "",
                RouteMatch(),
                RouteAction(
                    (WeightedCluster("none"),), fault=FaultInjection(abort=FaultAbort(FractionalPercent(100), 503))
                ),
            )
        ),
        (get(),),
    ),
)

_ALL = (
    "corsPolicy: {allowOrigins: [{exact: 'http://o.test'}, {regex: 'https://.*\\.x'}, {prefix: 'http://p.'}], "
    "allowMethods: [GET, POST], allowHeaders: [x-a, X-B], exposeHeaders: [x-e, x-f], maxAge: 1m, "
    "allowCredentials: true}"
)
_ALWAYS_503 = "fault: {abort: {httpStatus: 503, percentage: {value: 100}}}"
_UP = b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: up\r\nx-up: 1\r\ncontent-length: 2\r\n\r\nok"

_CORS = (
    _rule(
        _ALL,
        get(),
        get("/", _ORIGIN),
        get("/", "origin: http://other"),
        get("/", "origin: https://a.x"),
        get("/", "origin: https://a.xy"),
        get("/", "origin: http://p.q"),
        get("/", "origin:"),
        get("/", "origin: HTTP://O.TEST"),
        exchange("upstream allows an origin too", head("/", _ORIGIN), answer=_UP),
        exchange("upstream allows another", head("/", "origin: http://other"), answer=_UP),
        request("OPTIONS", "/", _ORIGIN),
        request("OPTIONS", "/", _ORIGIN, "access-control-request-method:"),
        request("GET", "/", _ORIGIN, _PREFLIGHT),
        _preflight(),
        _preflight(_GRPC),
        _preflight("access-control-request-headers: x-a"),
        _preflight(origin="http://other"),
        _preflight(origin="https://a.x"),
        get("/", _GRPC, _ORIGIN),
    ),
    _rule(f"{_ALL}, {_CHANGES}", get("/", _ORIGIN), get("/", "origin: http://other"), _preflight()),
    _rule(
        "corsPolicy: {allowOrigins: [{exact: '*'}], allowMethods: ['*'], allowHeaders: ['*'], exposeHeaders: ['*']}",
        get("/", "origin: null"),
        _preflight(),
        _preflight("access-control-request-headers: a, b", origin="null"),
        _preflight("access-control-request-headers: a", "access-control-request-headers: b"),
    ),
    *(_rule(f"corsPolicy: {{allowOrigins: [{how}]}}", get("/", _ORIGIN)) for how in ("{prefix: '*'}", "{regex: '.*'}")),
    _rule("corsPolicy: {allowOrigin: ['http://o.test']}", get("/", _ORIGIN), get("/", "origin: http://other")),
    _rule("corsPolicy: {allowOrigin: ['*']}", get("/", _ORIGIN)),
    _rule("corsPolicy: {}", get("/", _ORIGIN), _preflight()),
    _rule(
        "corsPolicy: {allowOrigins: [{exact: 'http://o.test'}], allowMethods: [GET], unmatchedPreflights: IGNORE, "
        "allowCredentials: true}",
        _preflight(),
        _preflight(origin="http://other"),
        get("/", "origin: http://other"),
    ),
    _rule(
        f"fault: {{abort: {{httpStatus: 503, percentage: {{value: 100}}}}}}, {_ALL}", get("/", _ORIGIN), _preflight()
    ),
    Case(
        "CORS where nobody answers",
        rules(f"- {{route: [{{destination: {{host: none}}}}], {_ALL}, {_CHANGES}}}"),
        (get("/", _ORIGIN), _preflight()),
    ),
)

_MIRRORED = Answer((b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"ok"), pause_s=0.1)
"""So slow that the copy has come before it is whole."""


def _copied(name: str, *pieces: bytes) -> Exchange:
    return exchange(name, *pieces, answer=_MIRRORED)


def _mirror(fields: str, *exchanges: Exchange, more: str = "") -> Case:
    yaml = f"- {{match: [{{uri: {{prefix: /m}}}}], route: [{{destination: {{host: a}}}}], {fields}{more}}}\n"
    return Case(f"rule {fields}{more}", rules(f"{yaml}- {{route: [{{destination: {{host: c}}}}]}}"), exchanges)


_MIRRORS = (
    _mirror(
        "mirror: {host: b}",
        _copied("GET", head("/m")),
        _copied("with fields", head("/m?q=1", "x-a: 1", "x-forwarded-for: 1.2.3.4", "user-agent: me")),
        _copied("with a port", head("/m", host="example.com:8080")),
        _copied("a body", head("/m", "content-length: 5", method="POST") + b"hello"),
        _copied("no body", head("/m", method="POST")),
        _copied("chunks", head("/m", "transfer-encoding: chunked", method="POST") + b"5\r\nhello\r\n0\r\n\r\n"),
        _copied(
            "trailers", head("/m", "transfer-encoding: chunked", method="POST") + b"5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n"
        ),
        _copied("a large body", head("/m", "content-length: 100000", method="POST") + b"x" * 100_000),
    ),
    _mirror("mirrors: [{destination: {host: b}}, {destination: {host: c}}]", _copied("GET", head("/m"))),
    _mirror("mirror: {host: b}, mirrorPercentage: {value: 0}", _copied("GET", head("/m"))),
    _mirror("mirror: {host: b}, mirror_percent: 100", _copied("GET", head("/m"))),
    _mirror("mirror: {host: none}", _copied("GET", head("/m"))),
    _mirror(
        "mirror: {host: b}",
        _copied("GET", head("/m")),
        more=", rewrite: {uri: /new, authority: 'other.test:81'}, headers: {request: {set: {x-q: '1'}}}",
    ),
    _mirror(
        "mirror: {host: b}",
        _copied("GET", head("/m")),
        more=", fault: {abort: {httpStatus: 503, percentage: {value: 100}}}",
    ),
)

_HOUR = 3600.0
_TWO = LocalRateLimit("two", TokenBucket(2, 1, _HOUR))
_ONE = LocalRateLimit("one", TokenBucket(1, 1, _HOUR))
_HERE = Route("", RouteMatch(Prefix("/here")), DirectResponseAction(200, b"here"))


def _gets(*targets: str, lines: tuple[str, ...] = ()) -> Exchange:
    """Several requests on one connection, each when the one before it is answered."""
    return exchange(" ".join(targets), *(head(target, *lines) for target in targets), methods=["GET"] * len(targets))


def _by_headers(*lines: tuple[str, ...]) -> Exchange:
    """A request with each of these headers, one after the other."""
    name = ", ".join(" and ".join(one) or "none" for one in lines)
    return exchange(name, *(head("/", *one) for one in lines), methods=["GET"] * len(lines))


def _users(*descriptors: RateLimitDescriptor, total: int = 1000) -> LocalRateLimit:
    return LocalRateLimit("users", TokenBucket(total, 1, _HOUR), descriptors)


def _limited(limit: LocalRateLimit, **more: object) -> Route:
    """A route to `a` with a limit."""
    action = RouteAction((WeightedCluster("a"),), **more)  # type: ignore[arg-type]
    return Route("", RouteMatch(), action, rate_limit=limit)


_LIMITS = (
    Case("a listener's limit", routed(rate_limit=_TWO), (_gets("/", "/", "/", "/"),)),
    Case("a listener's limit, gRPC", routed(rate_limit=_ONE), (_gets("/", "/", lines=(_GRPC,)),)),
    Case("a listener's limit where nothing is", routed(_HERE, rate_limit=_ONE), (_gets("/none", "/none", "/here"),)),
    Case("a listener's limit, answered here", routed(_HERE, rate_limit=_ONE), (_gets("/here", "/here"),)),
    Case(
        "a host's limit",
        of_hosts(VirtualHost("all", ("*",), (_HERE, forward("a")), rate_limit=_TWO), rate_limit=_ONE),
        (_gets("/", "/here", "/", "/here"),),
    ),
    Case(
        "a route's limit",
        of_hosts(
            VirtualHost(
                "all",
                ("*",),
                (
                    Route("", RouteMatch(Exact("/one")), RouteAction((WeightedCluster("a"),)), rate_limit=_ONE),
                    forward("a"),
                ),
                rate_limit=_TWO,
            )
        ),
        (_gets("/one", "/one", "/", "/", "/"),),
    ),
    Case(
        "a limit that fills in an instant",
        routed(rate_limit=LocalRateLimit("l", TokenBucket(3, 1_000_000, 1.0))),
        (_gets("/", "/"),),
    ),
    Case(
        "a limit for each value of a header",
        routed(rate_limit=_users(RateLimitDescriptor("x-user", None, TokenBucket(1, 1, _HOUR)), total=3)),
        (_by_headers(("x-user: al",), ("x-user: al",), ("x-user: bo",), (), ("x-user: cy",), ()),),
    ),
    Case(
        "a limit for one value of a header and for the others",
        routed(
            rate_limit=_users(
                RateLimitDescriptor("x-user", "vip", TokenBucket(3, 1, _HOUR)),
                RateLimitDescriptor("x-user", None, TokenBucket(1, 1, _HOUR)),
            )
        ),
        (
            _by_headers(
                ("x-user: vip",),
                ("x-user: vip",),
                ("x-user: al",),
                ("x-user: al",),
                ("x-user: VIP",),
                ("X-User: vip",),
                (),
            ),
        ),
    ),
    Case(
        "limits for two headers",
        routed(
            rate_limit=_users(
                RateLimitDescriptor("x-user", None, TokenBucket(3, 1, _HOUR)),
                RateLimitDescriptor("x-team", "red", TokenBucket(1, 1, 2 * _HOUR)),
            )
        ),
        (
            _by_headers(
                *((("x-user: al", "x-team: red"),) * 2),
                *((("x-user: al",),) * 3),
                ("x-team: red",),
            ),
        ),
    ),
    Case(
        "a limit before a fault",
        routed(_limited(_ONE, fault=FaultInjection(abort=FaultAbort(FractionalPercent(100), 503)))),
        (_gets("/", "/"),),
    ),
)


def _buffered(size: int) -> Route:
    return Route("", RouteMatch(), RouteAction((WeightedCluster("a"),)), buffer=Buffer(size))


_BUFFERS = (
    Case(
        "a buffer of ten bytes",
        routed(_buffered(10)),
        (
            get(),
            _post("ten", 10),
            _post("eleven", 11),
            exchange("eleven, gRPC", head("/", "content-length: 11", _GRPC, method="POST") + b"x" * 11),
            exchange("in pieces", head("/", "content-length: 8", method="POST") + b"0123", b"4567"),
            _chunked("chunks", b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"),
            _chunked("chunks in pieces", b"5\r\n01234\r\n", b"5\r\n56789\r\n0\r\n\r\n"),
            _chunked("too many chunks", b"5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n"),
            _chunked("no chunks", b"0\r\n\r\n"),
            _chunked("trailers", b"5\r\n01234\r\n0\r\nx-t: 1\r\n\r\n"),
        ),
    ),
    Case("a listener's buffer", routed(buffer=Buffer(3)), (_post("three", 3), _post("four", 4))),
    Case(
        "a host's buffer",
        of_hosts(VirtualHost("all", ("*",), (forward("a"),), buffer=Buffer(5)), buffer=Buffer(3)),
        (_post("five", 5), _post("six", 6)),
    ),
    Case(
        "a buffer behind CORS",
        routed(
            Route(
                "",
                RouteMatch(),
                RouteAction((WeightedCluster("a"),), cors=CorsPolicy((Regex(".*"),))),
                buffer=Buffer(3),
            )
        ),
        (_post("four", 4, _ORIGIN),),
    ),
)

CASES = (*_FAULTS, *_CORS, *_MIRRORS, *_LIMITS, *_BUFFERS)
