"""What one proxy runs: frozen data in Envoy's vocabulary.

This is the one seam between intent and execution. `mesh` turns resources into a `Snapshot`; `proxy` runs it and
knows nothing of YAML or Istio. Names and meanings are those of Envoy's v3 API (listener, HTTP connection manager,
virtual host, route, cluster, endpoint), so that a snapshot can also be written out as Envoy's own configuration.

Rules:

1. Everything here is frozen, hashable and comparable: two equal clusters are the same cluster, and the state of a
   running one survives a swap of snapshots.
2. Nothing here needs the resources it came from. `Origin` says where in the user's files a thing was written, for
   people; no decision is based on it, so it takes no part in comparisons.
3. Header names are lower case; text is `str`. The proxy turns it into bytes once, when it compiles a snapshot.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a person wrote this: `resource` is `Kind/name.namespace`, `line` counts from 1.

    `path` is the place in the resource, such as `spec.http[2].match[0]`. `root` is the rule that delegates to this one,
    if any does.
    """

    file: str
    line: int
    resource: str
    path: str = ""
    root: Origin | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.resource})"


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """`host` is an IP address, or a name to be looked up where the cluster's type says so."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Pipe:
    """A Unix domain socket."""

    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


Address = SocketAddress | Pipe


@dataclass(frozen=True, slots=True)
class Exact:
    """The whole value is `value`."""

    value: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """The value begins with `value`."""

    value: str


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole value matches the RE2 expression `value`."""

    value: str


StringMatcher = Exact | Prefix | Regex


@dataclass(frozen=True, slots=True)
class Suffix:
    """The value ends with `value`."""

    value: str


ValueMatcher = StringMatcher | Suffix


@dataclass(frozen=True, slots=True)
class HeaderMatcher:
    """One condition on one header; `match=None` asks only that it is present.

    `:method`, `:authority` and `:scheme` name the parts of the request line. Of several fields of one name, one that
    matches is enough. A missing header matches nothing, not even inverted, except that `present` can be inverted
    and that `treat_missing_header_as_empty` makes it an empty one (Envoy's `HeaderMatcher`).
    """

    name: str
    match: StringMatcher | None = None
    invert: bool = False
    treat_missing_header_as_empty: bool = False


@dataclass(frozen=True, slots=True)
class QueryParameterMatcher:
    """One condition on one query parameter; `match=None` asks only that it is present.

    The first parameter of that name counts; neither name nor value is percent-decoded (as in Envoy).
    """

    name: str
    match: StringMatcher | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the request's verified token: a text that meets one of `values`, or a list with such a text.

    `path` leads to it from the outside in (Envoy: `MetadataMatcher` of what `jwt_authn` leaves).
    """

    path: tuple[str, ...]
    values: tuple[ValueMatcher, ...]


@dataclass(frozen=True, slots=True)
class ClaimMatcher:
    """One condition on a claim. Inverted, it holds where the claim is missing (Envoy's `dynamic_metadata`)."""

    claim: Claim
    invert: bool = False


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """All conditions must hold. `path` is matched without its query."""

    path: StringMatcher = Prefix("/")
    case_sensitive: bool = True
    headers: tuple[HeaderMatcher, ...] = ()
    query_parameters: tuple[QueryParameterMatcher, ...] = ()
    claims: tuple[ClaimMatcher, ...] = ()


HEADER_OPERATORS = frozenset(
    (
        "DOWNSTREAM_LOCAL_ADDRESS",
        "DOWNSTREAM_REMOTE_ADDRESS",
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
        "HOSTNAME",
        "PROTOCOL",
        "REQ",
        "ROUTE_NAME",
        "START_TIME",
        "UPSTREAM_CLUSTER",
        "UPSTREAM_HOST",
    )
)
"""Envoy's command operators that a header's value may hold (`REQ` takes a header's name: `%REQ(x-user)%`)."""


@dataclass(frozen=True, slots=True)
class HeaderValue:
    """A header to write: `append` adds a field beside those of the same name, otherwise it takes their place."""

    name: str
    value: str
    append: bool = False


@dataclass(frozen=True, slots=True)
class HeaderMutations:
    """Changes to one set of headers: first all of `remove`, then `add` in its order.

    Values may hold those of Envoy's command operators that `HEADER_OPERATORS` names, such as
    `%DOWNSTREAM_REMOTE_ADDRESS%`; `%%` is a percent sign.
    """

    remove: tuple[str, ...] = ()
    add: tuple[HeaderValue, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.remove or self.add)


@dataclass(frozen=True, slots=True)
class RegexRewrite:
    """Every match of `pattern` in the path (without its query) becomes `substitution`, which may say `\\1`."""

    pattern: str
    substitution: str


@dataclass(frozen=True, slots=True)
class WeightedCluster:
    """One destination of a route, chosen in proportion to `weight`, with the changes made for it alone."""

    cluster: str
    weight: int = 1
    request_headers: HeaderMutations = HeaderMutations()
    response_headers: HeaderMutations = HeaderMutations()
    host_rewrite: str | None = None


@dataclass(frozen=True, slots=True)
class FractionalPercent:
    """A share of the requests: `numerator` of `denominator`."""

    numerator: int
    denominator: Literal[100, 10_000, 1_000_000] = 100

    def __str__(self) -> str:
        return f"{self.numerator * 100 / self.denominator:g} %"


@dataclass(frozen=True, slots=True)
class FaultDelay:
    """Hold a request back for so long."""

    fixed_delay_s: float
    percentage: FractionalPercent


@dataclass(frozen=True, slots=True)
class FaultAbort:
    """Answer in the upstream's stead: with `status`, or with 200 and `grpc_status` for gRPC."""

    percentage: FractionalPercent
    status: int = 200
    grpc_status: int | None = None


@dataclass(frozen=True, slots=True)
class FaultInjection:
    """Faults on purpose (Envoy's `HTTPFault`): first the delay, then the abort, each by a chance of its own."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """What scripts of other origins may do (Envoy's `CorsPolicy`, always enabled).

    `allow_methods` and `allow_headers` of `("*",)` repeat what a preflight asks for. A preflight of an origin that is
    not allowed goes upstream, unless `forward_not_matching_preflights` is off: its answer then allows nothing.
    """

    allow_origins: tuple[StringMatcher, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_s: int | None = None
    allow_credentials: bool = False
    forward_not_matching_preflights: bool = True


@dataclass(frozen=True, slots=True)
class RequestMirrorPolicy:
    """Send a copy of some requests to `cluster` as well, and forget it."""

    cluster: str
    percentage: FractionalPercent = FractionalPercent(100)


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """It holds `max_tokens` at first and at most; `tokens_per_fill` flow in, evenly, in each `fill_interval_s`."""

    max_tokens: int
    tokens_per_fill: int = 1
    fill_interval_s: float = 1.0


@dataclass(frozen=True, slots=True)
class RateLimitDescriptor:
    """Requests whose `header` is `value` have a bucket of their own; with None, those of each value have."""

    header: str
    value: str | None
    token_bucket: TokenBucket


@dataclass(frozen=True, slots=True)
class LocalRateLimit:
    """How many requests may pass (Envoy's `LocalRateLimit`). Each takes a token from every bucket that concerns it:
    first from those of `descriptors`, then from the common one.

    A listener, a virtual host or a route that has one has buckets of its own, and only the most specific counts. Of the
    buckets by value, the `max_dynamic_descriptors` that were used last are kept.
    """

    name: str
    token_bucket: TokenBucket
    descriptors: tuple[RateLimitDescriptor, ...] = ()
    max_dynamic_descriptors: int = 10_000


@dataclass(frozen=True, slots=True)
class Buffer:
    """Collect a request's body before anything is sent on; one of more than `max_request_bytes` is refused."""

    max_request_bytes: int


@dataclass(frozen=True, slots=True)
class HashHeader:
    """Hash a header; a request without it has no such hash."""

    name: str


@dataclass(frozen=True, slots=True)
class HashCookie:
    """Hash a cookie. With `ttl_s`, a client without it is given one: for so many seconds, for its session with 0.

    `path` and `attributes`, which are names and values, are told to the client then; a value may be empty.
    """

    name: str
    ttl_s: int | None = None
    path: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HashSourceIp:
    """Hash the client's IP address."""


@dataclass(frozen=True, slots=True)
class HashQueryParameter:
    """Hash a query parameter: the first of its name, not percent-decoded."""

    name: str


HashPolicy = HashHeader | HashCookie | HashSourceIp | HashQueryParameter


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When, how often and how patiently a request is tried again (Envoy's `RetryPolicy`).

    `retry_on` holds Envoy's conditions, gRPC's among them, of which one has to hold; `retriable_status_codes` are those
    that `retriable-status-codes` means. A try ends after `per_try_timeout_s`, unless that is 0. Before the first retry
    a random part of `base_interval_s` passes, before each further one of twice as much, up to ten times.

    With `previous_hosts`, a host that has had its turn is not chosen again, as far as `host_selection_max_attempts`
    choices find another; with `previous_priorities`, no priority is that had its turn in two tries.
    """

    retry_on: tuple[str, ...]
    num_retries: int = 1
    retriable_status_codes: tuple[int, ...] = ()
    per_try_timeout_s: float = 0.0
    base_interval_s: float = 0.025
    previous_hosts: bool = False
    host_selection_max_attempts: int = 1
    previous_priorities: bool = False


@dataclass(frozen=True, slots=True)
class RouteAction:
    """Forward to one of `clusters`. `prefix_rewrite` replaces what the route's prefix (or exact path) matched.

    What `hash_policies` find in a request, taken together, chooses the endpoint in clusters that balance by hash.

    The whole response has to come within `timeout_s` of the request's end, unless that is 0. A gRPC request says so
    itself, in `grpc-timeout`, where `max_grpc_timeout_s` is given, which is the most that it gets, unless that is 0.
    """

    clusters: tuple[WeightedCluster, ...]
    prefix_rewrite: str | None = None
    regex_rewrite: RegexRewrite | None = None
    host_rewrite: str | None = None
    fault: FaultInjection | None = None
    cors: CorsPolicy | None = None
    mirrors: tuple[RequestMirrorPolicy, ...] = ()
    hash_policies: tuple[HashPolicy, ...] = ()
    timeout_s: float = 0.0
    max_grpc_timeout_s: float | None = None
    retry_policy: RetryPolicy | None = None


@dataclass(frozen=True, slots=True)
class RedirectAction:
    """Answer with a redirect. `path` takes the place of path and query; `prefix_rewrite` only of what matched.

    `port=0` keeps none: the scheme's default.
    """

    code: int = 301
    scheme: str | None = None
    host: str | None = None
    port: int = 0
    path: str | None = None
    prefix_rewrite: str | None = None


@dataclass(frozen=True, slots=True)
class DirectResponseAction:
    """Answer from here, with `body` as plain text."""

    status: int
    body: bytes = b""


Action = RouteAction | RedirectAction | DirectResponseAction


@dataclass(frozen=True, slots=True)
class Route:
    """One rule: when `match` holds, and no rule before it did, do `action`.

    What comes of the requests that it forwards is counted apart where it has a `stat_prefix`.
    """

    name: str
    match: RouteMatch
    action: Action
    request_headers: HeaderMutations = HeaderMutations()
    response_headers: HeaderMutations = HeaderMutations()
    rate_limit: LocalRateLimit | None = None
    buffer: Buffer | None = None
    stat_prefix: str = ""
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """The routes of some hosts. A domain is a name, `*.suffix`, `prefix.*` or `*`, in lower case.

    It may end in a port only where the route configuration heeds the request's port. `rate_limit` and `buffer` hold for
    the routes that have none. With `include_request_attempt_count`, what is forwarded tells in `x-envoy-attempt-count`
    how often it has been, from 1 on.
    """

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    rate_limit: LocalRateLimit | None = None
    buffer: Buffer | None = None
    include_request_attempt_count: bool = False


@dataclass(frozen=True, slots=True)
class RouteConfiguration:
    """The virtual hosts of one listener: no domain stands in two of them.

    `ignore_port_in_host_matching`: a request's port plays no part in finding its virtual host. Otherwise a request
    for `a.b:80` meets only a domain `a.b:80`, `*` or another that covers it, port and all.
    """

    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    ignore_port_in_host_matching: bool = True


@dataclass(frozen=True, slots=True)
class LocalJwks:
    """Keys that are given: a JSON Web Key Set (RFC 7517), which may hold secret ones."""

    inline: str = field(repr=False, metadata={"secret": True})


@dataclass(frozen=True, slots=True)
class RemoteJwks:
    """Keys that are fetched from `uri`. With `discovered`, that is OpenID configuration, whose `jwks_uri` has them."""

    uri: str
    timeout_s: float = 5.0
    discovered: bool = False


Jwks = LocalJwks | RemoteJwks


@dataclass(frozen=True, slots=True)
class JwtHeader:
    """A header that brings a token, behind `value_prefix`."""

    name: str
    value_prefix: str = ""


@dataclass(frozen=True, slots=True)
class ClaimToHeader:
    """A claim that is copied into a request header; dots in `claim` lead into claims."""

    header: str
    claim: str


@dataclass(frozen=True, slots=True)
class JwtProvider:
    """Whose tokens are valid, by which keys, and where they stand in a request (Envoy's `JwtProvider`).

    An empty `issuer` is any. Without `audiences` any will do. A claim of `space_delimited_claims` that is a text is
    taken for the list of its words. Unless told to `forward` it, the token does not go on upstream.
    """

    name: str
    issuer: str
    jwks: Jwks
    audiences: tuple[str, ...] = ()
    from_headers: tuple[JwtHeader, ...] = (JwtHeader("authorization", "Bearer "),)
    from_params: tuple[str, ...] = ("access_token",)
    from_cookies: tuple[str, ...] = ()
    forward: bool = False
    forward_payload_header: str | None = None
    claim_to_headers: tuple[ClaimToHeader, ...] = ()
    space_delimited_claims: tuple[str, ...] = ("permission", "scope")
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class JwtAuthentication:
    """A request needs no token. One that it has must be valid for one of the providers that look where it stands.

    What it is worth to the filters behind this one are the claims of the first provider that finds it valid. Preflights
    of CORS pass (`bypass_cors_preflight`): no browser gives them a token.
    """

    providers: tuple[JwtProvider, ...]


@dataclass(frozen=True, slots=True)
class AnyRequest:
    """Every request."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of `rules` hold."""

    rules: tuple[AccessRule, ...]


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of `rules` holds."""

    rules: tuple[AccessRule, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`rule` does not hold."""

    rule: AccessRule


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """A header, `:method` or `:authority` has a value like this; `match=None` asks only that it is present."""

    name: str
    match: ValueMatcher | None = None
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class UrlPath:
    """The path, without its query, is like this."""

    match: ValueMatcher


@dataclass(frozen=True, slots=True)
class UriTemplate:
    """The path, without its query, is of this form: `*` is one segment, `**`, at its end, any number of them."""

    template: str


@dataclass(frozen=True, slots=True)
class DestinationIp:
    """The address that the client connected to is in this range, such as `10.0.0.0/8`."""

    range: str


@dataclass(frozen=True, slots=True)
class DirectRemoteIp:
    """The address at the other end of the connection is in this range."""

    range: str


@dataclass(frozen=True, slots=True)
class RemoteIp:
    """The address of the client is in this range: as x-forwarded-for tells it, where that is believed."""

    range: str


@dataclass(frozen=True, slots=True)
class RequestedServerName:
    """The client asked for a server by such a name (SNI); without TLS it asked for the name ''."""

    match: ValueMatcher


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The client's certificate has been verified, and calls it such a name: a URI, such as a SPIFFE ID."""

    match: ValueMatcher


AccessRule = (
    AnyRequest
    | AllOf
    | OneOf
    | Not
    | RequestHeader
    | UrlPath
    | UriTemplate
    | DestinationIp
    | DirectRemoteIp
    | RemoteIp
    | RequestedServerName
    | Authenticated
    | Claim
)
"""Envoy's `Permission`, where it is about a request's aim, and its `Principal`, where it is about the origin."""


@dataclass(frozen=True, slots=True)
class RbacPolicy:
    """The requests for which one of `permissions` and one of `principals` holds."""

    name: str
    permissions: tuple[AccessRule, ...]
    principals: tuple[AccessRule, ...]
    origin: Origin | None = field(default=None, compare=False)


RbacAction = Literal["ALLOW", "DENY", "LOG"]


@dataclass(frozen=True, slots=True)
class Rbac:
    """ALLOW lets only the requests of its policies pass, DENY only all others; LOG tells of those, and denies none.

    Of several policies that a request meets, the first by name is told of.
    """

    action: RbacAction
    policies: tuple[RbacPolicy, ...]


@dataclass(frozen=True, slots=True)
class RbacFilter:
    """Role-based access control. `shadow_rules` only tell what they would do (dry run)."""

    rules: Rbac | None = None
    shadow_rules: Rbac | None = None


@dataclass(frozen=True, slots=True)
class HttpConnectionManager:
    """How a listener speaks HTTP. Defaults are those that Istio gives Envoy at a gateway.

    `use_remote_address`: the listener is the edge of the mesh. It trusts no request's word on where it comes from:
    it writes x-forwarded-proto, x-envoy-external-address and x-request-id itself, adds the client's address to
    x-forwarded-for, and takes away what only the mesh may say of a request. Otherwise it stands inside the mesh:
    x-forwarded-for and x-envoy-external-address pass untouched, x-forwarded-proto and x-request-id are added where
    they are missing. `jwt_authn` and then each of `rbac` decide about a request before it has a route. `rate_limit` and
    `buffer` hold where neither the virtual host nor the route has one; the limit also for requests that have no route.
    """

    route_config: RouteConfiguration
    server_name: str = "meshproxy"
    use_remote_address: bool = True
    max_request_headers_kb: int = 60
    max_headers_count: int = 100
    request_headers_timeout_s: float = 60.0
    idle_timeout_s: float = 3600.0
    jwt_authn: JwtAuthentication | None = None
    rbac: tuple[RbacFilter, ...] = ()
    rate_limit: LocalRateLimit | None = None
    buffer: Buffer | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """A place where connections are accepted, and what is made of them."""

    name: str
    address: SocketAddress
    http: HttpConnectionManager


DiscoveryType = Literal["STATIC", "STRICT_DNS", "LOGICAL_DNS", "DYNAMIC_FORWARD_PROXY"]

DEFAULT_RING_SIZE = 1024
DEFAULT_TABLE_SIZE = 65537
MAX_RING_SIZE = 8 * 1024 * 1024
"""Envoy's bound to the points on a ring, however many hosts there are."""


@dataclass(frozen=True, slots=True)
class RingHash:
    """Requests of one hash go to one endpoint, found on a ring of at least `minimum_ring_size` points."""

    minimum_ring_size: int = DEFAULT_RING_SIZE

    def __str__(self) -> str:
        return "RING_HASH"


@dataclass(frozen=True, slots=True)
class Maglev:
    """Requests of one hash go to one endpoint, found in a table of `table_size` entries, a prime number."""

    table_size: int = DEFAULT_TABLE_SIZE

    def __str__(self) -> str:
        return "MAGLEV"


LbPolicy = Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"] | RingHash | Maglev
"""How an endpoint is chosen. As text, each is Envoy's name for it."""


@dataclass(frozen=True, slots=True)
class SlowStart:
    """An endpoint's weight grows in the first `window_s` seconds of its service, from `min_weight_percent` of it on.

    After a share t of the window it is t ** (1 / `aggression`) of the whole.
    """

    window_s: float
    aggression: float = 1.0
    min_weight_percent: float = 10.0


@dataclass(frozen=True, slots=True)
class Locality:
    """Where a proxy or an endpoint runs; empty is unknown."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


UNKNOWN_LOCALITY = Locality()


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """A GET of `path` at `address`: passed when it is answered with a status from 200 to 399."""

    address: Address
    path: str = "/"
    host: str = ""
    headers: tuple[HeaderValue, ...] = ()


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """A connection to `address`: passed when it is accepted."""

    address: Address


@dataclass(frozen=True, slots=True)
class ExecProbe:
    """A command, run here: passed when it exits with 0."""

    command: tuple[str, ...]


Probe = HttpProbe | TcpProbe | ExecProbe


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Whether an endpoint is healthy is found out by a probe, again and again.

    It is unhealthy until `healthy_threshold` probes in a row have passed, healthy until `unhealthy_threshold` in a row
    have failed, and so on. The defaults are those that Istio gives a readiness probe. Equal checks are one: its result
    counts for every endpoint that has it.
    """

    probe: Probe
    initial_delay_s: float = 0.0
    timeout_s: float = 1.0
    interval_s: float = 10.0
    healthy_threshold: int = 1
    unhealthy_threshold: int = 1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server of a cluster. `weight` is relative to the other endpoints' weights, at least 1.

    Those of `priority` 0 are asked first; others stand by. Priorities count from 0 without a gap.
    """

    address: Address
    weight: int = 1
    locality: Locality = UNKNOWN_LOCALITY
    priority: int = 0
    health_check: HealthCheck | None = None


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When an endpoint that keeps failing is ejected, which means that it gets no requests for a while.

    It is, after so many in a row: of answers 5xx; of gateway failures (502, 503, 504); and of our own failures to reach
    it or to hear of it, with `split_external_local_origin_errors`, without which each of those is like an answer 503. 0
    is never. `error_codes` are the statuses that count as failures, in place of 5xx. The defaults are Envoy's.

    It returns at the first sweep, of which there is one every `interval_s`, after `base_ejection_time_s` times the
    ejections so far, or after `max_ejection_time_s` if that is less. At most `max_ejection_percent` of the endpoints
    are ejected at a time.
    """

    consecutive_5xx: int = 5
    consecutive_gateway_failure: int = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failure: int = 5
    error_codes: tuple[int, ...] = ()
    interval_s: float = 10.0
    base_ejection_time_s: float = 30.0
    max_ejection_time_s: float = 300.0
    max_ejection_percent: int = 10


@dataclass(frozen=True, slots=True)
class LocalityWeight:
    """The weight of the endpoints of one locality and priority, taken together."""

    locality: Locality
    priority: int
    weight: int


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many retries may be under way: `budget_percent` of the requests that are, or `min_retry_concurrency`.

    With a `budget_interval_s`, those count instead that have begun in so long a time.
    """

    budget_percent: float = 20.0
    min_retry_concurrency: int = 3
    budget_interval_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CircuitBreakers:
    """How much of a cluster may be in use at a time, in all its endpoints together; None is without limit.

    A request is pending while it waits for a connection, a new one included, and active from then until its response's
    body has ended. An endpoint that has no connection may always open one. A retry is under way from the decision for
    it to its outcome; where there is a `retry_budget`, it bounds retries in place of `max_retries`.
    """

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_retries: int | None = None
    retry_budget: RetryBudget | None = None


@dataclass(frozen=True, slots=True)
class TcpKeepalive:
    """The kernel's probes of idle connections; what is None, the kernel decides."""

    probes: int | None = None
    time_s: int | None = None
    interval_s: int | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A set of equal servers. With `STRICT_DNS`, each endpoint's name stands for every address it resolves to.

    With `LOGICAL_DNS` there is one endpoint, whose name stands for the first address that it resolves to at the moment:
    new connections go there, and old ones are kept.

    With `DYNAMIC_FORWARD_PROXY` there are no endpoints: each request goes where its own authority says.

    With `locality_weights`, one for each locality of each priority, a locality is chosen by them before an endpoint is.

    `slow_start` is for the policies LEAST_REQUEST and ROUND_ROBIN.

    Where fewer than `healthy_panic_threshold` percent of the endpoints are healthy, all of them serve; with 0, never.

    A connection is closed when it has been idle for `idle_timeout_s` (0 is never), and as soon as it is idle once it is
    `max_connection_duration_s` old or has served `max_requests_per_connection`.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    type: DiscoveryType = "STATIC"
    lb_policy: LbPolicy = "LEAST_REQUEST"
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 3600.0
    max_connection_duration_s: float | None = None
    max_requests_per_connection: int | None = None
    tcp_keepalive: TcpKeepalive | None = None
    circuit_breakers: CircuitBreakers = CircuitBreakers()
    healthy_panic_threshold: float = 0.0
    locality_weights: tuple[LocalityWeight, ...] = ()
    slow_start: SlowStart | None = None
    outlier_detection: OutlierDetection | None = None
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one proxy runs."""

    listeners: tuple[Listener, ...] = ()
    clusters: tuple[Cluster, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The snapshot as JSON-ready data, for `/config_dump`; each union's member is named by `"@type"`."""
        dumped = _dump(self)
        assert isinstance(dumped, dict)
        return dumped


REDACTED = "[redacted]"
"""What Envoy's dumps, and ours, show of a secret."""


def _dump(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"@type": type(value).__name__} if isinstance(value, _UNION_MEMBERS) else {}
        return kind | {
            f.name: REDACTED if f.metadata.get("secret") else _dump(getattr(value, f.name))
            for f in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [_dump(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value


_UNION_MEMBERS = (
    SocketAddress,
    Pipe,
    Exact,
    Prefix,
    Regex,
    HashHeader,
    HashCookie,
    HashSourceIp,
    HashQueryParameter,
    HttpProbe,
    TcpProbe,
    ExecProbe,
    RouteAction,
    RedirectAction,
    DirectResponseAction,
    RingHash,
    Maglev,
    Suffix,
    LocalJwks,
    RemoteJwks,
    *get_args(AccessRule),
)
