"""PeerAuthentications: which connections a workload takes, plain, mutual TLS, or both.

Source: Istio's `ComposePeerAuthentication` and `addPeerAuthentication`. There is one level in another: mesh (the root
namespace), namespace, workload (a selector), port. What a level leaves UNSET is as the level above has it, and above
all is PERMISSIVE. Of several policies of one level, the oldest alone counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..resources import MutualTLS, PeerAuthentication, Resource
from ..snapshot import Origin
from .names import ROOT_NAMESPACE
from .ordering import age

Mode = Literal["DISABLE", "PERMISSIVE", "STRICT"]

Policy = Resource[PeerAuthentication]


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds for a workload: its `mode`, but for `ports`; and the policy that says so, if any does."""

    mode: Mode = "PERMISSIVE"
    ports: Mapping[int, Mode] = field(default_factory=dict)
    by: Policy | None = None
    port_policy: Policy | None = None

    def at(self, port: int) -> Mode:
        """What holds for one of the workload's own ports."""
        return self.ports.get(port, self.mode)

    def origin(self, port: int) -> Origin | None:
        """Where `at(port)` is written; None where it is the default."""
        policy = self.said_by(port)
        if policy is None:
            return None
        steps = ("portLevelMtls", str(port), "mode") if port in self.ports else ("mtls", "mode")
        position = policy.position("spec", *steps)
        return Origin(position.file, position.line, policy.id, f"spec.{'.'.join(steps)}")

    def said_by(self, port: int) -> Policy | None:
        """The policy by which `at(port)` is what it is; None where it is the default."""
        return self.port_policy if port in self.ports else self.by


class PeerAuthentications:
    """Every PeerAuthentication, to be asked for what holds for a workload."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._of_namespace: dict[str, Policy] = {}
        self._of_workloads: dict[tuple[str, tuple[str, str]], list[tuple[int, Policy]]] = {}
        for place, policy in enumerate(sorted(policies, key=age)):
            if labels := labels_of(policy):
                # A workload that it selects has this label among others.
                one = min(labels.items())
                self._of_workloads.setdefault((policy.namespace, one), []).append((place, policy))
            else:
                self._of_namespace.setdefault(policy.namespace, policy)

    def of(self, namespace: str, labels: Mapping[str, str]) -> Effective:
        """What holds for a workload of `namespace` with `labels`."""
        mesh = self._of_namespace.get(ROOT_NAMESPACE)
        own = self._of_namespace.get(namespace) if namespace != ROOT_NAMESPACE else None
        workload = next(iter(self.selecting(namespace, labels)), None)
        mode: Mode = "PERMISSIVE"
        by: Policy | None = None
        for policy in (mesh, own, workload):
            if policy is not None and (said := _mode(policy.spec.mtls)) is not None:
                mode, by = said, policy
        written = workload.spec.port_level_mtls if workload is not None else {}
        ports = {int(port): _mode(mtls) or mode for port, mtls in written.items()}
        return Effective(mode, ports, by, workload)

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> list[Policy]:
        """The policies that select a workload, the oldest first. Of these, the first alone counts."""
        if namespace == ROOT_NAMESPACE:
            return []  # a selector says nothing in the root namespace, and `check` says so
        known = (self._of_workloads.get((namespace, label), ()) for label in labels.items())
        found = {place: one for those in known for place, one in those if labels_of(one).items() <= labels.items()}
        return [found[place] for place in sorted(found)]


def labels_of(policy: Policy) -> Mapping[str, str]:
    """The labels of the workloads that a policy is for; none where it is for all of its namespace, or of the mesh."""
    return policy.spec.selector.match_labels if policy.spec.selector else {}


def _mode(mtls: MutualTLS | None) -> Mode | None:
    mode = mtls.mode if mtls is not None else None
    return None if mode is None or mode == "UNSET" else mode
