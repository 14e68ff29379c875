"""Extension providers and the policies that name them: who is asked has to be there, and has to be one.

Istio denies what such a policy is about; here nothing starts.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...resources import AuthorizationPolicy, MeshConfig, Problem, Resource, Service, ServiceEntry, WorkloadEntry
from ..advice import advice, listed
from ..ext_authz import provider_name, providing
from ..inbound import leads_to
from ..policy_targets import Target
from ..workloads import Workload
from .access import gateway_labels
from .scope import Scope, host_advice

Policy = Resource[AuthorizationPolicy]


def several_configurations(scope: Scope) -> Iterator[Problem]:
    """A second MeshConfig: a mesh has one."""
    first, *others = scope.mesh.of(MeshConfig) or (None,)
    for other in others:
        message = f"a second configuration of the mesh; the first is {first and first.position()}; join them"
        yield other.problem((), message)


def repeated_providers(scope: Scope) -> Iterator[Problem]:
    """A name that two providers have."""
    for config in scope.of(MeshConfig):
        names = [provider.name for provider in config.spec.extension_providers]
        for place, name in enumerate(names):
            if name in names[:place]:
                path = ("spec", "extensionProviders", place, "name")
                yield config.problem(path, f"{name!r} is already the name of another provider; names are unique here")


def unknown_services(scope: Scope) -> Iterator[Problem]:
    """A provider's service that nobody declares, or several do, or that has not the port."""
    if scope.unreadable("Service", "ServiceEntry"):
        return
    for config in scope.of(MeshConfig):
        for place, provider in enumerate(config.spec.extension_providers):
            if (http := provider.envoy_ext_authz_http) is None:
                continue
            path = ("spec", "extensionProviders", place, "envoyExtAuthzHttp")
            found = providing(http.service, scope.mesh.registry)
            if not found:
                near = host_advice(http.service, http.service, scope.mesh.registry)
                yield config.problem((*path, "service"), f"no service {http.service!r}; {near}")
            elif len(found) > 1:
                spaces = listed(one.namespace for one in found)
                yield config.problem((*path, "service"), f"is a service in {spaces}; say which, as namespace/host")
            elif found[0].port(http.port) is None:
                ports = listed(port.number for port in found[0].ports)
                yield config.problem((*path, "port"), f"{http.service} has no port {http.port}; it has {ports}")


def unknown_providers(scope: Scope) -> Iterator[Problem]:
    """A policy that has somebody asked whom the mesh's configuration does not name."""
    if scope.unreadable("MeshConfig"):
        return
    known = {name for name, one in scope.mesh.extension_providers.items() if one.provider.envoy_ext_authz_http}
    for policy in _policies(scope):
        name = provider_name(policy)
        if name not in known:
            nothing = "no MeshConfig has extensionProviders with envoyExtAuthzHttp"
            path = ("spec", "provider", "name")
            yield policy.problem(path, f"no extension provider {name!r}; {advice(name, known, nothing)}")


def several_providers(scope: Scope) -> Iterator[Problem]:
    """Policies of different providers that hold for one proxy."""
    if len({provider_name(policy) for policy in _policies(scope)}) < 2:
        return
    for who, target in _targets(scope):
        first, *others = [one for one in target.policies(_policies(scope))] or (None,)
        for other in others:
            if first is not None and provider_name(other) != provider_name(first):
                told = f"another provider than {first.id} ({first.position()}) names; a proxy asks one, as in Istio"
                yield other.problem(("spec", "provider", "name"), f"for {who}, {told}")


def _policies(scope: Scope) -> list[Policy]:
    return [policy for policy in scope.mesh.of(AuthorizationPolicy) if policy.spec.action == "CUSTOM"]


def _targets(scope: Scope) -> Iterator[tuple[str, Target]]:
    for labels in gateway_labels(scope):
        yield "the gateway", Target(scope.namespace, (labels,))
    for entry in scope.mesh.of(WorkloadEntry):
        workload = Workload.of(entry.spec, entry.labels)
        known = (*scope.mesh.of(Service), *scope.mesh.of(ServiceEntry))
        services = tuple(one for one in known if leads_to(one, entry, workload))
        yield entry.id, Target(entry.namespace, (workload.labels,), services)
