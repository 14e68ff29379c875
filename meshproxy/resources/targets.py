"""Whom a policy is for: workloads by their labels, or gateways and services by reference.

Source: Istio's `type/v1beta1/selector.proto`, and the validation in its CRDs.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .model import Model
from .types import Selector


class WorkloadLabels(Model):
    """Workloads by their labels; all have to match."""

    match_labels: Selector = Field(default_factory=dict)


class TargetReference(Model):
    """A Gateway, GatewayClass, Service or ServiceEntry of the policy's own namespace."""

    group: Annotated[str, Field(max_length=253)] | None = None
    kind: Annotated[str, Field(min_length=1, max_length=63)]
    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: str | None = None


TargetReferences = Annotated[tuple[TargetReference, ...], Field(max_length=16)]
