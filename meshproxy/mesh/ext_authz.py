"""AuthorizationPolicies for CUSTOM as Envoy's external authorization: what another service decides about.

Source: Istio's `authz` packages (`builder.go`, `extauthz.go`). The requests that meet a rule of such a policy are asked
about, before tokens and other policies; the provider that a policy names is one of the MeshConfig's. A proxy has one:
Istio, too, denies where policies name several, unless it is told to take more.

Two things Istio does not do: it leaves `clearRouteCache` alone, and has the provider asked in a dry run.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..resources import AuthorizationPolicy, EnvoyExtAuthzHttp, Resource
from ..snapshot import (
    BufferSettings,
    Exact,
    ExtAuthz,
    HeaderMutations,
    HeaderValue,
    Origin,
    Prefix,
    Rbac,
    Suffix,
    ValueMatcher,
)
from .authorization import is_dry_run, rbac
from .clusters import Target as Destination
from .clusters import Targets
from .mesh import Mesh, PlacedProvider
from .mutual_tls import Trust
from .policy_targets import Target
from .registry import Registry, Service
from .trust_domains import policies_at

_TIMEOUT_S = 600.0
_NOTHING = Rbac("DENY", ())
_NOBODY = "nobody"  # no cluster is called so


def ext_authz(mesh: Mesh, target: Target, port: int, targets: Targets, trust: Trust | None = None) -> ExtAuthz | None:
    """What a listener that is known by `port` asks others; the service that it asks is added to `targets`.

    None where no policy for CUSTOM holds. A provider that nobody knows, which is a problem of `check`, allows nothing.
    """
    policies = [one for one in policies_at(mesh, target, trust) if one.spec.action == "CUSTOM"]
    if not policies:
        return None
    enforced = rbac("DENY", [one for one in policies if not is_dry_run(one)], port) or _NOTHING
    tried = rbac("DENY", [one for one in policies if is_dry_run(one)], port)
    placed = mesh.extension_providers.get(provider_name(policies[0]))
    config = placed and placed.provider.envoy_ext_authz_http
    if placed is None or config is None:
        return ExtAuthz(provider_name(policies[0]), _NOBODY, enforced, tried)
    host = config.service.rpartition("/")[2].lower()
    cluster = targets.add(Destination(host, config.port, "")).name
    return _ext_authz(placed, config, cluster, enforced, tried)


def provider_name(policy: Resource[AuthorizationPolicy]) -> str:
    """The provider that a policy for CUSTOM names."""
    return (policy.spec.provider and policy.spec.provider.name) or ""


def providing(service: str, registry: Registry) -> tuple[Service, ...]:
    """The services that a provider's `service` may mean: `host`, or `namespace/host`."""
    namespace, slash, host = service.rpartition("/")
    return tuple(one for one in registry.declared(host.lower()) if not slash or one.namespace == namespace)


def _ext_authz(
    placed: PlacedProvider, config: EnvoyExtAuthzHttp, cluster: str, rules: Rbac, shadow_rules: Rbac | None
) -> ExtAuthz:
    position = placed.resource.position("spec", "extensionProviders", placed.place)
    body = config.include_request_body_in_check
    additional = sorted(config.include_additional_headers_in_check.items())
    return ExtAuthz(
        placed.provider.name,
        cluster,
        rules,
        shadow_rules,
        timeout_s=_TIMEOUT_S if config.timeout is None else config.timeout,
        path_prefix=config.path_prefix or "",
        failure_mode_allow=config.fail_open,
        status_on_error=int(config.status_on_error or 403),
        clear_route_cache=config.clear_route_cache,
        with_request_body=BufferSettings(body.max_request_bytes, body.allow_partial_message) if body else None,
        allowed_headers=_names(config.include_request_headers_in_check or config.include_headers_in_check),
        check_headers=HeaderMutations(add=tuple(HeaderValue(name.lower(), value) for name, value in additional)),
        allowed_upstream_headers=_names(config.headers_to_upstream_on_allow),
        allowed_client_headers=_names(config.headers_to_downstream_on_deny),
        allowed_client_headers_on_success=_names(config.headers_to_downstream_on_allow),
        origin=Origin(position.file, position.line, placed.resource.id, f"spec.extensionProviders[{placed.place}]"),
    )


def _names(patterns: Iterable[str]) -> tuple[ValueMatcher, ...]:
    return tuple(map(_name, patterns))


def _name(pattern: str) -> ValueMatcher:
    name = pattern.lower()
    if name.startswith("*"):
        return Suffix(name[1:])
    return Prefix(name[:-1]) if name.endswith("*") else Exact(name)
