"""What takes endpoints out: outlier detection, and active health checks.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/outlier_detection.proto and
https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/health_check.proto

An Envoy cluster has one health check for all its endpoints, which differ in where they are probed, or are not probed at
all. Right after it has started, Envoy takes one probe that passes for enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..snapshot import (
    Cluster,
    Endpoint,
    Exact,
    ExecProbe,
    HealthCheck,
    HttpProbe,
    OutlierDetection,
    Pipe,
    SocketAddress,
    UpstreamTlsContext,
)
from .fields import Inexpressible, Message, address, duration, is_ip_address
from .tls import RAW_BUFFER, upstream_tls_context

_ANYWHERE = SocketAddress("", 0)


def outlier_detection(config: Cluster) -> Message:
    """The fields of a cluster for `config.cluster.v3.OutlierDetection`; ejections by success rate are not wanted."""
    outliers = config.outlier_detection
    if outliers is None:
        return {}
    message: Message = {
        "consecutive_5xx": outliers.consecutive_5xx,
        "enforcing_consecutive_5xx": 100 if outliers.consecutive_5xx else 0,
        "enforcing_success_rate": 0,
        "interval": duration(outliers.interval_s),
        "base_ejection_time": duration(outliers.base_ejection_time_s),
        "max_ejection_time": duration(outliers.max_ejection_time_s),
        "max_ejection_percent": outliers.max_ejection_percent,
    }
    if outliers.consecutive_gateway_failure:
        message["consecutive_gateway_failure"] = outliers.consecutive_gateway_failure
        message["enforcing_consecutive_gateway_failure"] = 100
    if outliers.split_external_local_origin_errors:
        message["split_external_local_origin_errors"] = True
        message["consecutive_local_origin_failure"] = outliers.consecutive_local_origin_failure
        message["enforcing_local_origin_success_rate"] = 0
    if any(endpoint.health_check for endpoint in config.endpoints):
        message["successful_active_health_check_uneject_host"] = False
    return {"outlier_detection": message}


def error_matcher(outliers: OutlierDetection | None) -> Message:
    """The field of `HttpProtocolOptions` that says which statuses are failures, if not those that are by default."""
    if outliers is None or not outliers.error_codes:
        return {}
    rules = [
        {"http_response_headers_match": {"headers": [{"name": ":status", "string_match": {"exact": str(code)}}]}}
        for code in outliers.error_codes
    ]
    return {"outlier_detection": {"error_matcher": rules[0] if len(rules) == 1 else {"or_match": {"rules": rules}}}}


def health_checks(config: Cluster) -> Message:
    """The field of a cluster for its `config.core.v3.HealthCheck`, if there is one."""
    check, where = _common_check(config), _where(config)
    if check is None:
        return {}
    if check.initial_delay_s:
        raise Inexpressible(f"{where}: in Envoy they have no initial delay")
    return {
        "health_checks": [
            {
                "timeout": duration(check.timeout_s),
                "interval": duration(check.interval_s),
                "no_traffic_interval": duration(check.interval_s),
                "healthy_threshold": check.healthy_threshold,
                "unhealthy_threshold": check.unhealthy_threshold,
                "reuse_connection": False,
                **({"transport_socket_match_criteria": PROBE} if probe_socket(config) else {}),
                **_probe(check, where),
            }
        ]
    }


PROBE = {"meshproxy": "probe"}
"""What a cluster's probes find their own transport socket by, where they have one."""


def probe_socket(config: Cluster) -> Message | None:
    """The transport socket of a cluster's probes, if that is another than its requests'. No request tells them which
    server to ask for."""
    check = _common_check(config)
    tls = check.probe.tls if check is not None and isinstance(check.probe, HttpProbe) else None
    if check is None or not isinstance(check.probe, HttpProbe) or (tls == config.tls and not _by_request(tls)):
        return None
    if tls is None or not _by_request(tls):
        return RAW_BUFFER if tls is None else upstream_tls_context(tls)
    probes = (one.health_check.probe for one in config.endpoints if one.health_check is not None)
    hosts = {probe.host for probe in probes if isinstance(probe, HttpProbe)}
    [host] = hosts if len(hosts) == 1 else {""}
    if tls.auto_sni_san_validation and not host:
        raise Inexpressible(f"{_where(config)}: in Envoy they expect the same name in all certificates; give one host")
    validation = tls.common.validation_context
    if tls.auto_sni_san_validation and validation is not None:
        validation = replace(validation, match_subject_alt_names=(Exact(host),))
    return upstream_tls_context(
        replace(
            tls, sni=host if tls.auto_host_sni else tls.sni, common=replace(tls.common, validation_context=validation)
        )
    )


def _by_request(tls: UpstreamTlsContext | None) -> bool:
    return tls is not None and (tls.auto_host_sni or tls.auto_sni_san_validation)


def _where(config: Cluster) -> str:
    return f"health checks of cluster {config.name!r}"


def _common_check(config: Cluster) -> HealthCheck | None:
    """The check of all endpoints that have one, without what each has to itself."""
    checks = {_anywhere(one.health_check) for one in config.endpoints if one.health_check is not None}
    if len(checks) > 1:
        raise Inexpressible(f"{_where(config)}: in Envoy its endpoints all have the same one, and these differ")
    return next(iter(checks), None)


def _anywhere(check: HealthCheck) -> HealthCheck:
    """A check without what an endpoint may have to itself."""
    match check.probe:
        case HttpProbe():
            return replace(check, probe=replace(check.probe, address=_ANYWHERE, host=""))
        case ExecProbe():
            return check
        case _:
            return replace(check, probe=replace(check.probe, address=_ANYWHERE))


def _probe(check: HealthCheck, where: str) -> Message:
    match check.probe:
        case ExecProbe(command):
            raise Inexpressible(f"{where}: Envoy runs no command, such as {' '.join(command)!r}")
        case HttpProbe(path=path, headers=headers):
            return {
                "http_health_check": {
                    "path": path,
                    "expected_statuses": [{"start": 200, "end": 400}],
                    # Any other status would count for as many failures as it takes.
                    "retriable_statuses": [{"start": 100, "end": 200}, {"start": 400, "end": 600}],
                    "request_headers_to_add": [
                        {
                            "header": {"key": header.name, "value": header.value.replace("%", "%%")},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                        for header in headers
                    ],
                }
            }
        case _:
            return {"tcp_health_check": {}}


def health_check_config(endpoint: Endpoint, among: Iterable[Endpoint]) -> Message:
    """The field of an endpoint for its `HealthCheckConfig`, if any of its cluster's is probed."""
    check = endpoint.health_check
    if check is None:
        probed = any(one.health_check is not None for one in among)
        return {"health_check_config": {"disable_active_health_check": True}} if probed else {}
    if isinstance(check.probe, ExecProbe):
        return {}
    message = _elsewhere(endpoint, check.probe.address)
    if isinstance(check.probe, HttpProbe):
        message["hostname"] = check.probe.host or str(check.probe.address)
    return {"health_check_config": message} if message else {}


def _elsewhere(endpoint: Endpoint, probed: SocketAddress | Pipe) -> Message:
    usual = endpoint.address
    if probed == usual:
        return {}
    if isinstance(probed, SocketAddress):
        if isinstance(usual, SocketAddress) and usual.host == probed.host:
            return {"port_value": probed.port}
        if not is_ip_address(probed.host):
            raise Inexpressible(f"health check of endpoint {usual} at {probed}: Envoy looks up no name for it")
    return {"address": address(probed)}
