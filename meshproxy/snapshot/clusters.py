"""Clusters, their endpoints, and how it is found out which of them serve (Envoy's `config.cluster.v3`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .routes import HeaderValue
from .tls import UpstreamTlsContext
from .values import Address, Origin

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
    """A GET of `path` at `address`, by TLS if there is `tls`: passed when the answer has a status from 200 to 399."""

    address: Address
    path: str = "/"
    host: str = ""
    headers: tuple[HeaderValue, ...] = ()
    tls: UpstreamTlsContext | None = None


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


TlsMode = Literal["", "istio"]
"""What the metadata of Istio's endpoints say of TLS (`tlsMode`)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server of a cluster. `weight` is relative to the other endpoints' weights, at least 1.

    Those of `priority` 0 are asked first; others stand by. Priorities count from 0 without a gap. With the `tls_mode`
    `istio`, it is known to take mutual TLS from the mesh's workloads.
    """

    address: Address
    weight: int = 1
    locality: Locality = UNKNOWN_LOCALITY
    priority: int = 0
    health_check: HealthCheck | None = None
    tls_mode: TlsMode = ""


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
    With `outlier_detection`, this is about those alone that pass their health checks.

    A connection is closed when it has been idle for `idle_timeout_s` (0 is never), and as soon as it is idle once it is
    `max_connection_duration_s` old or has served `max_requests_per_connection`.

    Connections are secured as `tls` says; with `auto_tls` instead, only those to endpoints whose `tls_mode` is `istio`
    are, as that says (Envoy's `transport_socket` and `transport_socket_matches`).
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
    tls: UpstreamTlsContext | None = None
    auto_tls: UpstreamTlsContext | None = None
    origin: Origin | None = field(default=None, compare=False)
