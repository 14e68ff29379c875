"""Virtual hosts, their routes, and what a route does with a request (Envoy's `config.route.v3`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .matching import RouteMatch
from .values import Origin, StringMatcher

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
    how often it has been, from 1 on. With `require_tls`, a request that has not come by TLS is redirected to it (ALL).
    """

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    rate_limit: LocalRateLimit | None = None
    buffer: Buffer | None = None
    include_request_attempt_count: bool = False
    require_tls: bool = False


@dataclass(frozen=True, slots=True)
class RouteConfiguration:
    """The virtual hosts of one listener: no domain stands in two of them.

    `ignore_port_in_host_matching`: a request's port plays no part in finding its virtual host. Otherwise a request
    for `a.b:80` meets only a domain `a.b:80`, `*` or another that covers it, port and all.
    """

    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    ignore_port_in_host_matching: bool = True
