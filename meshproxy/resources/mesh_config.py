"""MeshConfig: what an installation of Istio says of the mesh as a whole, its extension providers above all.

Source: Istio's `mesh/v1alpha1/config.proto`, and its validation of extension providers. What only steers istiod, or
Kubernetes for it, is accepted: it has no say in what a proxy does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from .heads import UriText, header_errors, header_name_pattern_error
from .model import Model, NotYet, Refused, Ruled, Wrong, one_of, raise_wrongs
from .types import Bool, Duration, PortNumber, PositiveDuration, Text, checked, fqdn_error, is_dns_label, is_ip_address

Anything = Annotated[Any, WithJsonSchema({"type": "object"})]

# envoy.type.v3.StatusCode
_STATUSES = frozenset(
    (100, *range(200, 209), 226, *range(300, 306), 307, 308, *range(400, 419), *range(421, 425), 426, 428, 429, 431)
) | frozenset((*range(500, 509), 510, 511))


def one_trust_domain_error(name: str) -> str | None:
    """Why the text is not the name of a trust domain (SPIFFE-ID, section 2.1)."""
    if re.fullmatch(r"[a-z0-9._-]{1,255}", name):
        return None
    return f"{name!r} is not a trust domain; write lower case letters, digits, '.', '-' and '_', as in cluster.local"


def provider_service_error(service: str) -> str | None:
    """Why the text names no service: `host`, or `namespace/host` where several namespaces have one."""
    namespace, slash, host = service.rpartition("/")
    if slash and not is_dns_label(namespace):
        return f"{service!r} is not namespace/host; write it as in prod/authz.prod.svc.cluster.local"
    return None if is_ip_address(host) else fqdn_error(host)


def path_prefix_error(prefix: str) -> str | None:
    """Why the text cannot stand before a path."""
    if not prefix.startswith("/"):
        return f"{prefix!r} does not begin with '/', as paths do"
    return (
        f"{prefix!r} is more than a path; leave out what begins with '?' or '#'" if re.search("[?#]", prefix) else None
    )


def status_error(status: str) -> str | None:
    """Why the text is no status that Envoy knows."""
    if status.isascii() and status.isdigit() and int(status) in _STATUSES:
        return None
    return f"{status!r} is not a status of HTTP that Envoy knows; write its number as text, as in '403'"


def provider_name_error(name: str) -> str | None:
    """Why no policy could name a provider so."""
    if is_dns_label(name) and name == name.lower():
        return None
    return f"{name!r} is not a provider's name; use up to 63 lower-case letters, digits and '-'"


def _added_headers(headers: dict[str, str]) -> dict[str, str]:
    raise_wrongs("headers", header_errors(headers, authority=False))
    return headers


def _unquoted(port: object) -> object:
    return int(port) if isinstance(port, str) and port.isascii() and port.isdigit() and len(port) < 6 else port


QuotedPort = Annotated[PortNumber, BeforeValidator(_unquoted)]
"""A port, which may be written as text, as Istio's guides do."""
HeaderNames = tuple[Annotated[Text, checked(header_name_pattern_error)], ...]


class ExtAuthzRequestBody(Model):
    """How much of a request's body the service gets to see. A request with more is refused with 413, unless
    `allow_partial_message`."""

    max_request_bytes: Annotated[int, Field(strict=True, ge=1, le=2**32 - 1)]
    allow_partial_message: Bool = False
    pack_as_bytes: Annotated[Bool, Refused("packAsBytes is for gRPC; over HTTP bytes are bytes", one_of(False))] = False


class EnvoyExtAuthzHttp(Model):
    """A service that decides about requests, asked by HTTP. Lists of headers take `name`, `prefix*` and `*suffix`."""

    service: Annotated[Text, checked(provider_service_error)]
    port: QuotedPort
    timeout: PositiveDuration | None = None
    path_prefix: Annotated[UriText, checked(path_prefix_error)] | None = None
    fail_open: Bool = False
    clear_route_cache: Bool = False
    status_on_error: Annotated[str, checked(status_error)] | None = None
    include_headers_in_check: HeaderNames = ()
    include_request_headers_in_check: HeaderNames = ()
    include_additional_headers_in_check: Annotated[dict[str, str], AfterValidator(_added_headers)] = Field(
        default_factory=dict
    )
    include_request_body_in_check: ExtAuthzRequestBody | None = None
    headers_to_upstream_on_allow: HeaderNames = ()
    headers_to_downstream_on_deny: HeaderNames = ()
    headers_to_downstream_on_allow: HeaderNames = ()


_TRACING = NotYet("tracing")
_ACCESS_LOGS = NotYet("access logs that are sent somewhere; see --access-log")


class ExtensionProvider(Ruled):
    """Something outside the mesh that its proxies turn to, by the name that other resources have for it."""

    name: Annotated[Text, checked(provider_name_error)]
    envoy_ext_authz_http: EnvoyExtAuthzHttp | None = None
    envoy_ext_authz_grpc: Annotated[
        Anything | None, NotYet("authorization over gRPC, for which HTTP/2 is missing; use envoyExtAuthzHttp")
    ] = None
    zipkin: Annotated[Anything | None, _TRACING] = None
    lightstep: Annotated[Anything | None, _TRACING] = None
    datadog: Annotated[Anything | None, _TRACING] = None
    stackdriver: Annotated[Anything | None, _TRACING] = None
    opencensus: Annotated[Anything | None, _TRACING] = None
    skywalking: Annotated[Anything | None, _TRACING] = None
    opentelemetry: Annotated[Anything | None, _TRACING] = None
    prometheus: Anything | None = None
    envoy_file_access_log: Annotated[Anything | None, _ACCESS_LOGS] = None
    envoy_http_als: Annotated[Anything | None, _ACCESS_LOGS] = None
    envoy_tcp_als: Annotated[Anything | None, _ACCESS_LOGS] = None
    envoy_otel_als: Annotated[Anything | None, _ACCESS_LOGS] = None
    sds: Annotated[Anything | None, NotYet("secrets from a server")] = None

    def broken_rules(self) -> Iterator[Wrong]:
        given = [name for name in type(self).model_fields if name != "name" and getattr(self, name) is not None]
        if len(given) != 1:
            yield (), "is to be one provider: give one of envoyExtAuthzHttp, prometheus and others"


class OutboundTrafficPolicy(Model):
    """Where apps may send requests that no resource is about."""

    mode: Annotated[
        Literal["ALLOW_ANY", "REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS"] | None,
        NotYet("one for all; start sidecars with --outbound-policy", one_of("ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS")),
    ] = None


class DefaultProviders(Model):
    """The providers that are used where no Telemetry says otherwise."""

    tracing: Annotated[tuple[str, ...], _TRACING] = ()
    metrics: Annotated[tuple[str, ...], NotYet("other metrics than Prometheus's", one_of(["prometheus"]))] = ()
    access_logging: Annotated[tuple[str, ...], _ACCESS_LOGS] = ()


_EXPORTS = NotYet("defaults of exportTo; say it in each resource")
_TLS = NotYet("one setting of TLS for the whole mesh")


class MeshConfig(Model):
    """Settings of the whole mesh."""

    extension_providers: Annotated[tuple[ExtensionProvider, ...], Field(max_length=1000)] = ()
    default_providers: DefaultProviders | None = None
    root_namespace: Annotated[
        str | None, NotYet("another root namespace than istio-system", one_of("istio-system"))
    ] = None
    trust_domain: Annotated[str, checked(one_trust_domain_error)] | None = None
    trust_domain_aliases: tuple[Annotated[str, checked(one_trust_domain_error)], ...] = ()
    enable_auto_mtls: Bool | None = None
    mesh_mtls: Annotated[Anything | None, _TLS] = Field(None, alias="meshMTLS")
    tls_defaults: Annotated[Anything | None, _TLS] = None
    ca_certificates: Annotated[tuple[Anything, ...], NotYet("roots of other CAs")] = ()
    access_log_file: Annotated[
        str | None, NotYet("one access log for the mesh; use --access-log", one_of("/dev/stdout"))
    ] = None
    access_log_format: Annotated[str | None, NotYet("other formats of the access log", one_of(""))] = None
    access_log_encoding: Annotated[
        Literal["TEXT", "JSON"] | None, NotYet("other formats of the access log", one_of("TEXT"))
    ] = None
    enable_envoy_access_log_service: Annotated[Bool, NotYet("access logs that are sent somewhere", one_of(False))] = (
        False
    )
    disable_envoy_listener_log: Bool = False
    enable_tracing: Annotated[Bool, NotYet("tracing", one_of(False))] = False
    enable_prometheus_merge: Annotated[
        Bool | None, NotYet("the app's metrics among the proxy's; false is accepted", one_of(False))
    ] = None
    connect_timeout: Annotated[
        Duration | None, NotYet("one for all; use connectionPool.tcp.connectTimeout", one_of("10s"))
    ] = None
    tcp_keepalive: Annotated[Anything | None, NotYet("one for all; use connectionPool.tcp.tcpKeepalive")] = None
    h2_upgrade_policy: Annotated[
        Literal["DO_NOT_UPGRADE", "UPGRADE"] | None, NotYet("HTTP/2 to upstreams", one_of("DO_NOT_UPGRADE"))
    ] = None
    default_http_retry_policy: Annotated[
        Anything | None, NotYet("retries for the whole mesh; use those of VirtualServices")
    ] = None
    default_traffic_policy: Annotated[Anything | None, NotYet("one for all; use DestinationRules")] = None
    locality_lb_setting: Annotated[
        Anything | None, NotYet("one for all; use the localityLbSetting of DestinationRules")
    ] = None
    zone_aware_lb_setting: Annotated[
        Anything | None, NotYet("one for all; use the localityLbSetting of DestinationRules")
    ] = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    inbound_traffic_policy: Annotated[Anything | None, NotYet("captured connections")] = None
    path_normalization: Annotated[Anything | None, NotYet("other ways to normalise paths")] = None
    default_service_export_to: Annotated[tuple[str, ...], _EXPORTS] = ()
    default_virtual_service_export_to: Annotated[tuple[str, ...], _EXPORTS] = ()
    default_destination_rule_export_to: Annotated[tuple[str, ...], _EXPORTS] = ()
    service_settings: Annotated[tuple[Anything, ...], NotYet("settings of services across clusters")] = ()
    service_scope_configs: Annotated[tuple[Anything, ...], NotYet("settings of services across clusters")] = ()
    service_entry_visibility: Annotated[Anything | None, NotYet("defaults of exportTo")] = None
    default_config: Annotated[Anything | None, NotYet("settings of proxies")] = None
    inbound_cluster_stat_name: Annotated[str | None, NotYet("other names of metrics")] = None
    outbound_cluster_stat_name: Annotated[str | None, NotYet("other names of metrics")] = None
    ingress_class: str | None = None
    ingress_service: str | None = None
    ingress_selector: str | None = None
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] | None = None
    config_sources: tuple[Anything, ...] = ()
    discovery_selectors: tuple[Anything, ...] = ()
    certificates: tuple[Anything, ...] = ()
    ca: Anything | None = None
    dns_refresh_rate: Duration | None = None
    protocol_detection_timeout: Duration | None = None
    hbone_idle_timeout: Duration | None = None
    proxy_listen_port: int | None = None
    proxy_http_port: int | None = None
    proxy_inbound_listen_port: int | None = None
    verify_certificate_at_client: Bool | None = None
