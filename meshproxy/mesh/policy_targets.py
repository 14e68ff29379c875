"""Which security policies hold for a proxy: by namespace and labels, or by reference.

Source: Istio's `WorkloadPolicyMatcher` and `ListAuthorizationPolicies`. A policy of the root namespace holds for the
whole mesh, any other for its own namespace; a selector narrows it to workloads, a reference to what it names.

Difference from Istio, on purpose: a reference to a Service or a ServiceEntry is enforced by the sidecars of the
workloads behind it, on the ports that it leads to, for there are no waypoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .. import resources as api
from ..resources import Resource, TargetReference
from .names import ROOT_NAMESPACE
from .registry import selects

GATEWAY_NAME_LABEL = "gateway.networking.k8s.io/gateway-name"
"""The label by which a proxy is a gateway of Kubernetes' Gateway API, and may be referred to by that name."""

Policy = TypeVar("Policy", api.AuthorizationPolicy, api.RequestAuthentication)

KINDS: dict[tuple[str, str], type[api.Model] | None] = {
    ("gateway.networking.k8s.io", "Gateway"): None,
    ("", "Service"): api.Service,
    ("core", "Service"): api.Service,
    ("networking.istio.io", "ServiceEntry"): api.ServiceEntry,
}
"""What a reference may name, by group and kind. A gateway of the Gateway API is no resource that is read here."""


@dataclass(frozen=True)
class Target:
    """A proxy as policies see it: where it runs, and how its workload is labelled, which need not be one label set.

    `services` are those that lead to a sidecar's port.
    """

    namespace: str
    labels: tuple[Mapping[str, str], ...]
    services: tuple[Resource[Any], ...] = ()

    def policies(self, policies: Iterable[Resource[Policy]]) -> Iterator[Resource[Policy]]:
        """Those of some policies that hold here, the mesh's before the namespace's."""
        of_mesh_first = sorted(policies, key=lambda policy: policy.namespace != ROOT_NAMESPACE)
        return (policy for policy in of_mesh_first if self.is_of(policy))

    def is_of(self, policy: Resource[Policy]) -> bool:
        """Whether a policy holds here."""
        if references := target_references(policy.spec):
            return any(self._is(reference, policy.namespace) for reference in references)
        if policy.namespace not in (ROOT_NAMESPACE, self.namespace):
            return False
        selector = policy.spec.selector
        return selector is None or any(selects(selector.match_labels, labels) for labels in self.labels)

    def _is(self, reference: TargetReference, namespace: str) -> bool:
        model = KINDS.get((reference.group or "", reference.kind))
        if reference.kind == "Gateway":
            return namespace == self.namespace and any(
                labels.get(GATEWAY_NAME_LABEL) == reference.name for labels in self.labels
            )
        return model is not None and any(
            isinstance(service.spec, model) and (service.namespace, service.name) == (namespace, reference.name)
            for service in self.services
        )


def target_references(policy: api.AuthorizationPolicy | api.RequestAuthentication) -> tuple[TargetReference, ...]:
    """What a policy refers to; nothing if it holds by namespace and labels."""
    return policy.target_refs or ((policy.target_ref,) if policy.target_ref else ())
