"""Generated parts of snapshots that Envoy can express: everything that a route may say, odd values included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from meshproxy.snapshot import (
    Action,
    Buffer,
    CircuitBreakers,
    Cluster,
    CorsPolicy,
    DirectResponseAction,
    Endpoint,
    Exact,
    FaultAbort,
    FaultDelay,
    FaultInjection,
    FilterChain,
    FractionalPercent,
    HashCookie,
    HashHeader,
    HashPolicy,
    HashQueryParameter,
    HashSourceIp,
    HeaderMatcher,
    HeaderMutations,
    HeaderValue,
    HttpConnectionManager,
    Listener,
    Locality,
    LocalityWeight,
    LocalRateLimit,
    Maglev,
    Pipe,
    Prefix,
    QueryParameterMatcher,
    RateLimitDescriptor,
    RedirectAction,
    Regex,
    RegexRewrite,
    RequestMirrorPolicy,
    RingHash,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    SlowStart,
    Snapshot,
    SocketAddress,
    StringMatcher,
    TcpKeepalive,
    TokenBucket,
    VirtualHost,
    WeightedCluster,
)

_PATHS = ("/", "/a", "/a/", "/a/b", "/A", "/ab", "/b", "/a/7", "/a%20b")
_EXPRESSIONS = ("/a.*", "/[ab]/b", ".*b", r"/a/\d+", "/", "(?i)/A", "")
_TEXTS = ("u", "us", "u,v", "", "U")

_texts: st.SearchStrategy[StringMatcher] = st.one_of(
    st.sampled_from(_TEXTS).map(Exact),
    st.sampled_from(_TEXTS).map(Prefix),
    st.sampled_from(["u+", "u|v", "", ".*"]).map(Regex),
)
_paths: st.SearchStrategy[StringMatcher] = st.one_of(
    st.sampled_from(_PATHS).map(Prefix), st.sampled_from(_PATHS).map(Exact), st.sampled_from(_EXPRESSIONS).map(Regex)
)
_rarely = st.sampled_from([False, False, False, True])
_header_matchers = st.one_of(
    st.builds(
        HeaderMatcher,
        st.sampled_from(["x-user", "x-new", "accept"]),
        st.none() | _texts,
        _rarely,
        treat_missing_header_as_empty=_rarely,
    ),
    st.builds(HeaderMatcher, st.just(":method"), st.sampled_from(["GET", "POST"]).map(Exact), _rarely),
    st.builds(HeaderMatcher, st.just(":authority"), st.sampled_from(["a", "a.test"]).map(Prefix)),
)
_conditions = st.builds(
    RouteMatch,
    _paths,
    case_sensitive=st.sampled_from([True, True, False]),
    headers=st.lists(_header_matchers, max_size=2).map(tuple),
    query_parameters=st.lists(
        st.builds(QueryParameterMatcher, st.sampled_from(["q", "Q"]), st.none() | _texts), max_size=1
    ).map(tuple),
)
_names = st.sampled_from(["x-user", "x-new", "x-shared", "x-envoy-original-path", "accept"])
_values = st.sampled_from(
    [
        *("1", "", "50%%", "%REQ(x-user)%", "%REQ(:path)%", "%REQ(:authority)%", "%PROTOCOL%", "%ROUTE_NAME%"),
        *("%UPSTREAM_CLUSTER%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "a%REQ(:method)%b"),
    ]
)
_mutations = st.one_of(
    st.just(HeaderMutations()),
    st.builds(
        HeaderMutations,
        st.lists(_names, max_size=2, unique=True).map(tuple),
        st.lists(st.builds(HeaderValue, _names, _values, st.booleans()), max_size=3).map(tuple),
    ),
)
_redirects = st.builds(
    RedirectAction,
    st.sampled_from([301, 302, 303, 307, 308]),
    st.sampled_from([None, "http", "https"]),
    st.sampled_from([None, "other.test"]),
    st.sampled_from([0, 80, 8443]),
    st.sampled_from([None, "/new", "/new?q=1"]),
    st.sampled_from([None, None, "/z", "/z/"]),
)
_answers = st.builds(
    DirectResponseAction, st.sampled_from([200, 204, 404, 503]), st.sampled_from([b"", b"here", "é".encode(), b"\xff"])
)


_HASHES: tuple[HashPolicy, ...] = (
    HashHeader("x-user"),
    HashHeader(":path"),
    HashQueryParameter("q"),
    HashSourceIp(),
    HashCookie("c"),
    HashCookie("c", 60, "/", (("SameSite", "Lax"), ("Secure", ""))),
)


def _actions(clusters: Sequence[str]) -> st.SearchStrategy[Action]:
    """What a route may do; it forwards to one or to several of `clusters`."""
    destinations = st.builds(
        WeightedCluster,
        st.sampled_from(clusters),
        st.integers(1, 100),
        _mutations,
        _mutations,
        st.sampled_from([None, None, "rewritten.test"]),
    )
    forwards = st.builds(
        lambda destinations, rewrite, host, hashes: RouteAction(
            tuple(destinations),
            prefix_rewrite=rewrite if isinstance(rewrite, str) else None,
            regex_rewrite=rewrite if isinstance(rewrite, RegexRewrite) else None,
            host_rewrite=host,
            hash_policies=tuple(hashes),
        ),
        st.lists(destinations, min_size=1, max_size=3),
        st.sampled_from([None, None, "/new", "/", RegexRewrite("/a(.*)", r"/z\1"), RegexRewrite("[ab]", r"<\0\\>")]),
        st.sampled_from([None, None, "route.test"]),
        st.lists(st.sampled_from(_HASHES), max_size=2),
    )
    return st.one_of(forwards, forwards, forwards, _redirects, _answers)


_CLUSTERS = (
    Cluster("static", (Endpoint(SocketAddress("127.0.0.1", 9)), Endpoint(SocketAddress("::1", 9), 3)), "STATIC"),
    Cluster("pipe", (Endpoint(Pipe("/tmp/nobody.socket")),), lb_policy="RANDOM", connect_timeout_s=0.25),
    Cluster("names", (Endpoint(SocketAddress("localhost", 9), 2),), "STRICT_DNS", "ROUND_ROBIN"),
    Cluster("anywhere", (), "DYNAMIC_FORWARD_PROXY"),
    Cluster("limited", (), circuit_breakers=CircuitBreakers(0, 1, 2), tcp_keepalive=TcpKeepalive(3, 4, 5)),
    Cluster("short-lived", (), idle_timeout_s=0, max_connection_duration_s=0.5, max_requests_per_connection=1),
    Cluster("kept alive", (), tcp_keepalive=TcpKeepalive()),
    Cluster("passed through", (), "DYNAMIC_FORWARD_PROXY", connect_timeout_s=3),
    Cluster("empty", ()),
    Cluster("logical", (Endpoint(SocketAddress("localhost", 9)),), "LOGICAL_DNS"),
    Cluster("ring", (Endpoint(SocketAddress("::1", 9)),), lb_policy=RingHash(2048)),
    Cluster("table", (Endpoint(SocketAddress("::1", 9)),), lb_policy=Maglev(251)),
    Cluster(
        "warm",
        (
            Endpoint(SocketAddress("127.0.0.1", 9), locality=Locality("us", "a", "1")),
            Endpoint(SocketAddress("127.0.0.2", 9), priority=1, locality=Locality("eu")),
        ),
        healthy_panic_threshold=50,
        locality_weights=(LocalityWeight(Locality("us", "a", "1"), 0, 2), LocalityWeight(Locality("eu"), 1, 1)),
        slow_start=SlowStart(30, 0.5, 0),
    ),
    Cluster("turns", (Endpoint(SocketAddress("::1", 9)),), lb_policy="ROUND_ROBIN", slow_start=SlowStart(0.001)),
)
_HOSTS = ("a.test", "*.test", "a.*", "*", "b.test", "*-x.test", "10.0.0.1")


_percents = st.builds(FractionalPercent, st.integers(0, 100), st.sampled_from([100, 10_000, 1_000_000]))
_aborts = st.builds(FaultAbort, _percents, st.integers(200, 599)) | st.builds(
    FaultAbort, _percents, grpc_status=st.integers(0, 16)
)
_faults = st.builds(FaultInjection, st.none() | st.builds(FaultDelay, st.just(0.001), _percents), st.none() | _aborts)
_lists = st.sampled_from([(), ("*",), ("a", "B")])
_cors = st.builds(
    CorsPolicy,
    st.lists(_texts, max_size=2).map(tuple),
    *(_lists, _lists, _lists),
    *(st.none() | st.integers(0, 86400), st.booleans(), st.booleans()),
)
_mirrors = st.lists(st.builds(RequestMirrorPolicy, st.sampled_from(["static", "empty"]), _percents), max_size=2)
_buckets = st.builds(TokenBucket, st.integers(1, 1000), st.integers(1, 1000), st.sampled_from([0.05, 1.0, 3600.0]))
_descriptors = st.builds(RateLimitDescriptor, st.sampled_from(["x-a", "x-b"]), st.sampled_from([None, "1"]), _buckets)
_limits = st.none() | st.builds(
    LocalRateLimit,
    st.just("limit"),
    _buckets,
    st.lists(_descriptors, max_size=3, unique_by=lambda one: (one.header, one.value)).map(tuple),
)
_buffers = st.none() | st.builds(Buffer, st.integers(1, 2**32 - 1))


@st.composite
def _filtered(draw: st.DrawFn, route: Route) -> Route:
    """A route with filters."""
    if isinstance(route.action, RouteAction):
        fault, cors, mirrors = draw(st.none() | _faults), draw(st.none() | _cors), tuple(draw(_mirrors))
        route = replace(route, action=replace(route.action, fault=fault, cors=cors, mirrors=mirrors))
    return replace(route, rate_limit=draw(_limits), buffer=draw(_buffers))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A snapshot of several listeners, for Envoy to read; nothing in it is there to be sent to."""
    actions = _actions([*(one.name for one in _CLUSTERS), "unknown"])
    names = st.sampled_from(["", "r1", "r.2"])
    rules = st.lists(st.builds(Route, names, _conditions, actions, _mutations, _mutations), max_size=5).map(tuple)
    listeners = []
    for number in range(draw(st.integers(1, 4))):
        domains = draw(st.lists(st.sampled_from(_HOSTS), unique=True, max_size=4))
        hosts = tuple(
            VirtualHost(domain, (domain,), tuple(map(draw, map(_filtered, draw(rules)))), draw(_limits), draw(_buffers))
            for domain in domains
        )
        manager = HttpConnectionManager(
            RouteConfiguration("routes", hosts, draw(st.booleans())),
            use_remote_address=draw(st.booleans()),
            max_request_headers_kb=draw(st.sampled_from([1, 60, 8192])),
            max_headers_count=draw(st.sampled_from([1, 100])),
            request_headers_timeout_s=draw(st.sampled_from([0.25, 60.0, 1e-9])),
            rate_limit=draw(_limits),
            buffer=draw(_buffers),
        )
        listeners.append(Listener(f"l{number}", SocketAddress("127.0.0.1", 0), (FilterChain(manager),)))
    return Snapshot(tuple(listeners), _CLUSTERS)
