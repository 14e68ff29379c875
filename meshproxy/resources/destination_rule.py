"""DestinationRule: how to treat a service once a request is on its way there.

Source: Istio's `networking/v1alpha3/destination_rule.proto`, and the admission webhook's rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isqrt
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from .heads import cookie_attribute_error, cookie_name_error, hashed_header_error
from .model import Model, NotYet, Ruled, Wrong, camel_case, none_of, one_of, raise_wrongs
from .targets import WorkloadLabels
from .types import (
    FQDN,
    Bool,
    DNSLabel,
    Duration,
    ExportTo,
    Labels,
    NonNegative,
    PercentInt,
    PercentNumber,
    PortNumber,
    PositiveDuration,
    Text,
    UInt,
    UInt64,
    WildcardHost,
    checked,
    one_of_texts,
)
from .virtual_service import PortSelector

# Envoy's maglev table is a prime below this.
MAX_MAGLEV_TABLE = 5_000_011

# And its rings have no more points than this.
MAX_RING_SIZE = 8 * 1024 * 1024

SimpleLB = Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]
H2UpgradePolicy = Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]
ClientTLSMode = Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]

# A name that TLS can tell is in ASCII, and has at most so many bytes (RFC 6066, section 3; RFC 1035, section 2.3.4).
MAX_SNI = 255


RingSize = Annotated[UInt64, Field(le=MAX_RING_SIZE)]


class RingHash(Model):
    """Ring hash's settings; the ring has at least this many points."""

    minimum_ring_size: RingSize | None = None


class MagLev(Ruled):
    """Maglev's settings; the table has this many entries."""

    table_size: UInt64 | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        size = self.table_size
        if size is None or not (size < MAX_MAGLEV_TABLE and _is_prime(size)):
            yield ("tableSize",), f"has to be a prime number below {MAX_MAGLEV_TABLE}, such as 65537"


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, isqrt(number) + 1))


CookieText = Annotated[str, checked(cookie_attribute_error)]


class Attribute(Model):
    """An attribute of a cookie that the proxy makes."""

    name: Annotated[str, checked(cookie_name_error)]
    value: CookieText | None = None


class HTTPCookie(Ruled):
    """The cookie to hash; with a ttl, the proxy makes it where it is missing."""

    name: Annotated[str, checked(cookie_name_error)]
    path: CookieText | None = None
    ttl: Duration | None = None
    attributes: tuple[Attribute, ...] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        yield from _repeated("attributes", [attribute.name for attribute in self.attributes])


class ConsistentHashLB(Ruled):
    """The same request property leads to the same endpoint."""

    http_header_name: Annotated[str, checked(hashed_header_error)] | None = None
    http_cookie: HTTPCookie | None = None
    use_source_ip: Bool | None = None
    http_query_parameter_name: Text | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: RingSize | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        keys = ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
        values = (self.http_header_name, self.http_cookie, self.use_source_ip, self.http_query_parameter_name)
        given = [key for key, value in zip(keys, values, strict=True) if value is not None]
        if len(given) != 1:
            yield (
                (),
                f"hashes one thing; give one of {', '.join(keys)}" + (f", not {' and '.join(given)}" if given else ""),
            )
        algorithms = [a for a in (self.ring_hash, self.maglev, self.minimum_ring_size) if a is not None]
        if len(algorithms) > 1:
            yield (), "give one of ringHash, maglev and minimumRingSize"


class Distribute(Ruled):
    """The shares of the destinations' localities for requests from one locality."""

    from_: str | None = None
    to: dict[str, Annotated[int, Field(strict=True, ge=1, le=100)]] = Field(default_factory=dict)

    def broken_rules(self) -> Iterator[Wrong]:
        if sum(self.to.values()) != 100:
            yield ("to",), f"the weights add up to {sum(self.to.values())}; they have to make 100"
        yield from ((("to", name), message) for name, message in _wrong_localities(self.to))


def _wrong_localities(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Of names `region/zone/subzone`, those that are none, or that can never be met: the first that fits counts."""
    known: dict[str, tuple[str, ...]] = {}
    for name in names:
        parts = tuple(name.split("/", 2))
        if not all(parts) or "*" in name[:-1]:
            yield name, f"{name!r} is no locality; write region/zone/subzone or its beginning, with '*' only at its end"
            continue
        whole = (*parts, "*", "*")[:3]
        for other, earlier in known.items():
            if _lies_in(whole, earlier) or ("*" not in name and _lies_in(earlier, whole)):
                yield name, f"{name!r} and {other!r}, which comes before it, overlap; each locality has one share"
                break
        known[name] = whole


def _lies_in(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    return all(wide in ("*", narrow) for narrow, wide in zip(inner, outer, strict=True))


class Failover(Ruled):
    """The region that takes over when one fails."""

    from_: str | None = None
    to: str | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.from_ == self.to:
            yield ("to",), "a region cannot take over from itself; name another"
        for name, region in (("from", self.from_), ("to", self.to)):
            if region and ("/" in region or "*" in region):
                yield (name,), f"{region!r} is not a region; give its name alone, without zone or wildcard"


class LocalityLoadBalancerSetting(Ruled):
    """Which localities get the requests of which."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: Bool | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.distribute and self.failover:
            yield (), "give one of distribute and failover, not both"
        if self.failover:
            yield from _topology_labels(self.failover_priority, "beside failover, which decides by place already")
        wrong = dict(_wrong_localities(rule.from_ or "" for rule in self.distribute))
        for place, rule in enumerate(self.distribute):
            if message := wrong.pop(rule.from_ or "", None):
                yield ("distribute", place, "from"), message


def _topology_labels(labels: Iterable[str], where: str) -> Iterator[Wrong]:
    for place, label in enumerate(labels):
        if label in _TOPOLOGY:
            yield ("failoverPriority", place), f"{label!r} cannot stand here, {where}; remove it"


_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


class ZoneAwareLoadBalancerSetting(Ruled):
    """Prefer the proxy's own zone, as far as its share of the endpoints allows."""

    enabled: Bool | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: Annotated[int, Field(strict=True, ge=1)] | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        yield from _topology_labels(self.failover_priority, "where regions come first in any case")


class WarmupConfiguration(Model):
    """Raise a new endpoint's share slowly."""

    duration: PositiveDuration
    minimum_percent: PercentNumber | None = None
    aggression: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None


class LoadBalancerSettings(Ruled):
    """How requests are spread over the endpoints. LEAST_REQUEST unless given; LEAST_CONN is its old name."""

    simple: SimpleLB | None = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    warmup_duration_secs: PositiveDuration | None = None
    warmup: WarmupConfiguration | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        pairs = (
            ("simple", self.simple, "consistentHash", self.consistent_hash),
            ("localityLbSetting", self.locality_lb_setting, "zoneAwareLbSetting", self.zone_aware_lb_setting),
            ("warmupDurationSecs", self.warmup_duration_secs, "warmup", self.warmup),
        )
        for one, first, other, second in pairs:
            if first is not None and second is not None:
                yield (), f"give one of {one} and {other}, not both"


# The most that Linux takes (include/net/tcp.h): TCP_KEEPCNT, and TCP_KEEPIDLE and TCP_KEEPINTVL in seconds.
MAX_KEEPALIVE_PROBES = 127
MAX_KEEPALIVE_S = 32767


class TcpKeepalive(Ruled):
    """The kernel's probes of idle connections. It counts in whole seconds; what is left out, it decides itself."""

    probes: UInt | None = None
    time: PositiveDuration | None = None
    interval: PositiveDuration | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.probes is not None and self.probes > MAX_KEEPALIVE_PROBES:
            yield ("probes",), f"has to be at most {MAX_KEEPALIVE_PROBES}, the most that Linux sends"
        for name, seconds in (("time", self.time), ("interval", self.interval)):
            if seconds is not None and not 1 <= seconds < MAX_KEEPALIVE_S + 1:
                yield (name,), f"has to be between 1s and {MAX_KEEPALIVE_S}s, the bounds of Linux"


class TCPSettings(Model):
    """Limits of connections, whatever they carry; 0 is no limit. The connect timeout is 10s unless given."""

    max_connections: NonNegative | None = None
    connect_timeout: PositiveDuration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: PositiveDuration | None = None
    idle_timeout: Duration | None = None


class ConnectionKeepalive(Model):
    """HTTP/2 pings on idle connections."""

    interval: PositiveDuration
    timeout: PositiveDuration


class HTTPSettings(Ruled):
    """Limits of HTTP connections and requests; 0 is no limit. Its idle timeout goes before that of `tcp`."""

    http1_max_pending_requests: NonNegative | None = None
    http2_max_requests: NonNegative | None = None
    max_requests_per_connection: NonNegative | None = None
    max_retries: NonNegative | None = None
    idle_timeout: PositiveDuration | None = None
    h2_upgrade_policy: Annotated[
        H2UpgradePolicy | None, NotYet("HTTP/2 to upstreams; use DO_NOT_UPGRADE", none_of("UPGRADE"))
    ] = None
    use_client_protocol: Annotated[Bool, NotYet("HTTP/2 to upstreams; false is accepted", one_of(False))] = False
    max_concurrent_streams: Annotated[NonNegative | None, NotYet("limits of HTTP/2 streams")] = None
    http2_keep_alive: Annotated[ConnectionKeepalive | None, NotYet("HTTP/2 pings")] = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.h2_upgrade_policy == "UPGRADE" and self.use_client_protocol:
            yield ("useClientProtocol",), "cannot be true beside h2UpgradePolicy: UPGRADE; keep one"


class ConnectionPoolSettings(Ruled):
    """Limits of the connections to a service's endpoints."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.tcp is None and self.http is None:
            yield (), "is empty; give tcp or http"


class OutlierDetection(Ruled):
    """When an endpoint that keeps failing is left out for a while."""

    consecutive_errors: NonNegative | None = None
    split_external_local_origin_errors: Bool = False
    consecutive_local_origin_failures: UInt | None = None
    consecutive_gateway_errors: UInt | None = None
    consecutive_5xx_errors: UInt | None = None
    interval: PositiveDuration | None = None
    base_ejection_time: PositiveDuration | None = None
    max_ejection_percent: PercentInt | None = None
    min_health_percent: PercentInt | None = None
    outlier_detection_http_error_codes: tuple[Annotated[int, Field(strict=True, ge=100, le=599)], ...] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        if self.consecutive_local_origin_failures and not self.split_external_local_origin_errors:
            message = "counts only beside splitExternalLocalOriginErrors: true; set that too"
            yield ("consecutiveLocalOriginFailures",), message


def _sni_error(name: str) -> str | None:
    if not name.isascii() or not name.isprintable() or " " in name or len(name) > MAX_SNI:
        return f"{name!r} is no server name; TLS takes at most {MAX_SNI} ASCII letters, digits and signs"
    return None


class ClientTLSSettings(Ruled):
    """TLS towards the endpoints; without a mode there is none.

    Paths are those of files on the machine that the proxy runs on. Without `ca_certificates` the machine's own
    authorities are believed. `credential_name` is a Secret in the namespace of the proxy.
    """

    mode: ClientTLSMode | None = None
    client_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None
    credential_name: str | None = None
    subject_alt_names: tuple[Text, ...] = ()
    sni: Annotated[str, checked(_sni_error)] | None = None
    insecure_skip_verify: Bool | None = None
    ca_crl: str | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        mode = self.mode or "DISABLE"
        told = "mode: DISABLE" if self.mode else "no mode, which means DISABLE"
        if mode == "DISABLE":
            yield from self._without_effect(_FIELDS, f"has no effect with {told}; remove it, or give another mode")
        elif mode == "ISTIO_MUTUAL":
            message = "has no effect with mode: ISTIO_MUTUAL, which is all about the mesh's own certificates; remove it"
            yield from self._without_effect((*_FILES, "credential_name", "insecure_skip_verify"), message)
        elif self.credential_name:
            message = "cannot stand beside credentialName, whose Secret brings all certificates; keep one"
            yield from self._without_effect(_FILES, message)
        elif mode == "MUTUAL":
            for name in _CLIENT_FILES:
                if not getattr(self, name):
                    yield (camel_case(name),), "is required by mode: MUTUAL"
        else:
            message = "has no effect with mode: SIMPLE, which shows no certificate; use MUTUAL, or remove it"
            yield from self._without_effect(_CLIENT_FILES, message)
        if self.insecure_skip_verify and mode in ("SIMPLE", "MUTUAL"):
            # In a MUTUAL credential there may be a certificate to show, and no authorities.
            names = ("ca_certificates", "ca_crl", "subject_alt_names", *("credential_name",) * (mode == "SIMPLE"))
            yield from self._without_effect(names, "has no effect with insecureSkipVerify: true; keep one")

    def _without_effect(self, names: Iterable[str], message: str) -> Iterator[Wrong]:
        return (((camel_case(name),), message) for name in names if getattr(self, name))


_CLIENT_FILES = ("client_certificate", "private_key")
_FILES = (*_CLIENT_FILES, "ca_certificates", "ca_crl")
_FIELDS = (*_FILES, "credential_name", "subject_alt_names", "sni", "insecure_skip_verify")


class PortTrafficPolicy(Ruled):
    """The policy of one port; it replaces the policy of the whole service there."""

    port: PortSelector
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if len(self.model_fields_set) < 2:
            yield (), "has a port and no policy; give loadBalancer, connectionPool, outlierDetection or tls"


class TunnelSettings(Model):
    """Reach a TCP destination through an HTTP proxy."""

    protocol: Annotated[str, one_of_texts("CONNECT", "POST")] | None = None
    target_host: FQDN
    target_port: PortNumber


class ProxyProtocol(Model):
    """Tell the endpoint who the client is by the PROXY protocol."""

    version: Literal["V1", "V2"] | None = None


class RetryBudget(Model):
    """Bound the active retries by a share of the active requests: 20 percent unless given, and at least 3."""

    percent: PercentNumber | None = None
    min_retry_concurrency: UInt | None = None
    budget_interval: PositiveDuration | None = None


class TrafficPolicy(Ruled):
    """How to reach the endpoints of a service or of a subset."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: Annotated[TunnelSettings | None, NotYet("tunnels of TCP connections")] = None
    proxy_protocol: Annotated[ProxyProtocol | None, NotYet("the PROXY protocol")] = None
    retry_budget: RetryBudget | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if not self.model_fields_set:
            yield (), "is empty; give loadBalancer, connectionPool or another of its fields"
        if self.tunnel and self.proxy_protocol:
            yield (), "give one of tunnel and proxyProtocol, not both"


class Subset(Model):
    """The endpoints of a service that carry all these labels; no labels, all endpoints."""

    name: DNSLabel
    labels: Labels = Field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class DestinationRule(Model):
    """The policies of a service, and the subsets that VirtualServices may route to."""

    host: WildcardHost
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: ExportTo = ()
    workload_selector: WorkloadLabels | None = None

    @field_validator("subsets")
    @classmethod
    def _subsets_apart(cls, subsets: tuple[Subset, ...]) -> tuple[Subset, ...]:
        raise_wrongs("subsets", _repeated("", [subset.name for subset in subsets]))
        return subsets

    @field_validator("workload_selector")
    @classmethod
    def _selects_at_home(cls, selector: WorkloadLabels | None, info: ValidationInfo) -> WorkloadLabels | None:
        home = {".", (info.context or {}).get("namespace")}
        if selector is not None and not home.issuperset(info.data.get("export_to", ())):
            wrong = (
                "a rule for single workloads is for those of its own namespace: let exportTo be ['.'], or leave it out"
            )
            raise_wrongs("workloadSelector", [((), wrong)])
        return selector


def _repeated(field: str, names: list[str]) -> Iterator[Wrong]:
    """A wrong at the name of every item whose name an earlier one has."""
    prefix = (field,) if field else ()
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (*prefix, index, "name"), f"{name!r} is already the name of another; names are unique here"
