"""The filters that decide about access: `ext_authz`, `jwt_authn` and `rbac`, and the clusters that keys come from.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/http/ext_authz/v3/ext_authz.proto,
https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/http/jwt_authn/v3/config.proto,
https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/rbac/v3/rbac.proto
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from ..snapshot import (
    AccessRule,
    AllOf,
    AnyRequest,
    Authenticated,
    BufferSettings,
    Claim,
    DestinationIp,
    DirectRemoteIp,
    ExtAuthz,
    JwtAuthentication,
    JwtProvider,
    Listener,
    LocalJwks,
    Not,
    OneOf,
    Rbac,
    RbacFilter,
    RbacPolicy,
    RemoteIp,
    RemoteJwks,
    RequestedServerName,
    RequestHeader,
    UriTemplate,
    UrlPath,
    ValueMatcher,
)
from .fields import SYSTEM_ROOTS, UINT32_MAX, Inexpressible, Message, duration, limit, typed, value_matcher

_PAYLOAD = "payload"  # the key of the claims in what jwt_authn leaves
_JWT_FILTER = "envoy.filters.http.jwt_authn"
_RBAC_FILTER = "envoy.filters.http.rbac"
_CACHE = "300s"
_CONNECT_TIMEOUT = "5s"


def access_filters(
    authz: ExtAuthz | None, jwt: JwtAuthentication | None, rbac: Iterable[RbacFilter]
) -> Iterator[Message]:
    """The `HttpFilter`s that come before all others. Envoy takes two of one name."""
    if authz is not None:
        # What is to be asked about, an RBAC filter finds out that lets everything pass, and the next reads of it.
        if authz.shadow_rules is not None:
            yield {"name": _RBAC_FILTER, "typed_config": _tried(_TRIED, authz.name, authz.shadow_rules)}
        yield {"name": _RBAC_FILTER, "typed_config": _tried(_ASKED, authz.name, authz.rules)}
        yield {"name": "envoy.filters.http.ext_authz", "typed_config": ext_authz(authz)}
    if jwt is not None:
        yield {"name": _JWT_FILTER, "typed_config": jwt_authentication(jwt)}
    for one in rbac:
        yield {"name": _RBAC_FILTER, "typed_config": rbac_filter(one)}


_ASKED, _TRIED = "istio_ext_authz_", "istio_dry_run_custom_"
_POLICY = "istio-ext-authz"


def _tried(prefix: str, provider: str, rules: Rbac) -> Message:
    """A filter that only tells which requests another service is, or would be, asked about."""
    policies = {f"{_POLICY}-{provider}-{one.name}": _policy(one) for one in rules.policies}
    return typed(
        "extensions.filters.http.rbac.v3.RBAC",
        shadow_rules={"action": rules.action, "policies": policies},
        shadow_rules_stat_prefix=prefix,
    )


def ext_authz(authz: ExtAuthz) -> Message:
    """`extensions.filters.http.ext_authz.v3.ExtAuthz`, for what the filter before it has found."""
    lists = {
        "allowed_upstream_headers": authz.allowed_upstream_headers,
        "allowed_client_headers": authz.allowed_client_headers,
        "allowed_client_headers_on_success": authz.allowed_client_headers_on_success,
    }
    response = {name: _names(matchers) for name, matchers in lists.items() if matchers}
    add = [{"key": one.name, "value": one.value} for one in authz.check_headers.add]
    service: Message = {
        "server_uri": {
            "uri": f"http://{authz.name}",
            "cluster": authz.cluster,
            "timeout": limit(authz.timeout_s, f"timeout of {authz.name}"),
        },
        **({"path_prefix": authz.path_prefix} if authz.path_prefix else {}),
        **({"authorization_request": {"headers_to_add": add}} if add else {}),
        **({"authorization_response": response} if response else {}),
    }
    found = {"filter": _RBAC_FILTER, "path": [{"key": f"{_ASKED}shadow_effective_policy_id"}]}
    body = authz.with_request_body
    return typed(
        "extensions.filters.http.ext_authz.v3.ExtAuthz",
        http_service=service,
        transport_api_version="V3",
        failure_mode_allow=authz.failure_mode_allow,
        status_on_error={"code": authz.status_on_error},
        clear_route_cache=authz.clear_route_cache,
        filter_enabled_metadata={**found, "value": {"string_match": {"prefix": _POLICY}}},
        **({"allowed_headers": _names(authz.allowed_headers)} if authz.allowed_headers else {}),
        **({} if body is None else {"with_request_body": _buffer_settings(body)}),
    )


def _names(matchers: Iterable[ValueMatcher]) -> Message:
    return {"patterns": [value_matcher(one, ignore_case=True) for one in matchers]}


def _buffer_settings(body: BufferSettings) -> Message:
    if not 1 <= body.max_request_bytes <= UINT32_MAX:
        raise Inexpressible(f"bodies of up to {body.max_request_bytes} bytes: Envoy allows 1 to {UINT32_MAX}")
    return {"max_request_bytes": body.max_request_bytes, "allow_partial_message": body.allow_partial_message}


def jwt_authentication(config: JwtAuthentication) -> Message:
    """`extensions.filters.http.jwt_authn.v3.JwtAuthentication`, with the requirement that Istio gives it."""
    names = [{"provider_name": one.name} for one in config.providers]
    optional = [{"requires_any": {"requirements": [one, {"allow_missing": {}}]}} for one in names]
    requirement: Message = optional[0]
    if len(optional) > 1:
        all_optional = {"requires_all": {"requirements": optional}}
        requirement = {"requires_any": {"requirements": [*names, all_optional]}}
    return typed(
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={one.name: jwt_provider(one) for one in config.providers},
        rules=[{"match": {"prefix": "/"}, "requires": requirement}],
        bypass_cors_preflight=True,
    )


def jwt_provider(provider: JwtProvider) -> Message:
    """`extensions.filters.http.jwt_authn.v3.JwtProvider`"""
    lists: dict[str, list[Any]] = {
        "audiences": list(provider.audiences),
        "from_headers": [_jwt_header(one.name, one.value_prefix) for one in provider.from_headers],
        "from_params": list(provider.from_params),
        "from_cookies": list(provider.from_cookies),
        "claim_to_headers": [{"header_name": one.header, "claim_name": one.claim} for one in provider.claim_to_headers],
    }
    return {
        **({"issuer": provider.issuer} if provider.issuer else {}),
        **{name: value for name, value in lists.items() if value},
        **_jwks(provider),
        "forward": provider.forward,
        **({"forward_payload_header": provider.forward_payload_header} if provider.forward_payload_header else {}),
        "payload_in_metadata": _PAYLOAD,
        "normalize_payload_in_metadata": {"space_delimited_claims": list(provider.space_delimited_claims)},
        "clear_route_cache": True,
    }


def _jwt_header(name: str, prefix: str) -> Message:
    return {"name": name, **({"value_prefix": prefix} if prefix else {})}


def _jwks(provider: JwtProvider) -> Message:
    match provider.jwks:
        case LocalJwks(inline):
            return {"local_jwks": {"inline_string": inline}}
        case RemoteJwks(uri, timeout_s, discovered):
            if discovered:
                raise Inexpressible(f"keys found by {uri}: Envoy has to be told where they are; give jwksUri")
            http_uri = {"uri": uri, "cluster": _cluster_name(uri), "timeout": duration(timeout_s)}
            return {"remote_jwks": {"http_uri": http_uri, "cache_duration": _CACHE}}


def jwks_clusters(listeners: Iterable[Listener]) -> Iterator[Message]:
    """A `config.cluster.v3.Cluster` for each server that keys are fetched from."""
    managers = (chain.http for listener in listeners for chain in listener.filter_chains)
    providers = (one for http in managers if (jwt := http.jwt_authn) for one in jwt.providers)
    uris = (one.jwks.uri for one in providers if isinstance(one.jwks, RemoteJwks))
    for name, uri in {_cluster_name(uri): uri for uri in uris}.items():
        parts = urlsplit(uri)
        where = {"address": parts.hostname, "port_value": _port(uri)}
        endpoint = {"endpoint": {"address": {"socket_address": where}}}
        yield {
            "name": name,
            "type": "STRICT_DNS",
            "connect_timeout": _CONNECT_TIMEOUT,
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
            **({"transport_socket": _tls(parts.hostname or "")} if parts.scheme == "https" else {}),
        }


def _cluster_name(uri: str) -> str:
    return f"jwks|{_port(uri)}||{urlsplit(uri).hostname}"


def _port(uri: str) -> int:
    parts = urlsplit(uri)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _tls(host: str) -> Message:
    validation = {
        "trusted_ca": {"filename": SYSTEM_ROOTS},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
    }
    context = typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni=host,
        common_tls_context={"validation_context": validation},
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def rbac_filter(config: RbacFilter) -> Message:
    """`extensions.filters.http.rbac.v3.RBAC`"""
    prefix = (
        {}
        if config.shadow_rules is None
        else {"shadow_rules_stat_prefix": f"istio_dry_run_{config.shadow_rules.action.lower()}_"}
    )
    return typed(
        "extensions.filters.http.rbac.v3.RBAC",
        **({} if config.rules is None else {"rules": _rbac(config.rules)}),
        **({} if config.shadow_rules is None else {"shadow_rules": _rbac(config.shadow_rules)}),
        **prefix,
    )


def _rbac(rules: Rbac) -> Message:
    return {"action": rules.action, "policies": {one.name: _policy(one) for one in rules.policies}}


def _policy(policy: RbacPolicy) -> Message:
    return {
        "permissions": [permission(rule) for rule in policy.permissions],
        "principals": [principal(rule) for rule in policy.principals],
    }


def permission(rule: AccessRule) -> Message:
    """`config.rbac.v3.Permission`"""
    match rule:
        case AllOf(rules):
            return {"and_rules": {"rules": [permission(one) for one in rules]}}
        case OneOf(rules):
            return {"or_rules": {"rules": [permission(one) for one in rules]}}
        case Not(inner):
            return {"not_rule": permission(inner)}
        case UriTemplate(template):
            config = typed("extensions.path.match.uri_template.v3.UriTemplateMatchConfig", path_template=template)
            return {"uri_template": {"name": "uri-template", "typed_config": config}}
        case DestinationIp(where):
            return {"destination_ip": _cidr(where)}
        case RequestedServerName(match):
            return {"requested_server_name": value_matcher(match)}
        case _:
            return _either(rule)


def principal(rule: AccessRule) -> Message:
    """`config.rbac.v3.Principal`"""
    match rule:
        case AllOf(rules):
            return {"and_ids": {"ids": [principal(one) for one in rules]}}
        case OneOf(rules):
            return {"or_ids": {"ids": [principal(one) for one in rules]}}
        case Not(inner):
            return {"not_id": principal(inner)}
        case Authenticated(match):
            return {"authenticated": {"principal_name": value_matcher(match)}}
        case DirectRemoteIp(where):
            return {"direct_remote_ip": _cidr(where)}
        case RemoteIp(where):
            return {"remote_ip": _cidr(where)}
        case _:
            return _either(rule)


def _either(rule: AccessRule) -> Message:
    match rule:
        case AnyRequest():
            return {"any": True}
        case RequestHeader(name, match, ignore_case):
            how = {"present_match": True} if match is None else {"string_match": value_matcher(match, ignore_case)}
            return {"header": {"name": name, **how}}
        case UrlPath(match):
            return {"url_path": {"path": value_matcher(match)}}
        case Claim():
            return {"metadata": claim_matcher(rule)}
        case _:
            raise Inexpressible(f"{rule!r} in this place: Envoy asks it elsewhere")


def claim_matcher(claim: Claim) -> Message:
    """`type.matcher.v3.MetadataMatcher`, of a text or of a list of texts."""
    values = [{"string_match": value_matcher(match)} for match in claim.values]
    value = values[0] if len(values) == 1 else {"or_match": {"value_matchers": values}}
    return {
        "filter": _JWT_FILTER,
        "path": [{"key": _PAYLOAD}, *({"key": key} for key in claim.path)],
        "value": {"or_match": {"value_matchers": [{"list_match": {"one_of": value}}, value]}},
    }


def _cidr(where: str) -> Message:
    network = ip_network(where, strict=False)
    return {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}
