"""Istio's order of resources, wherever order decides."""

from __future__ import annotations

from typing import Any

from ..resources import Resource


def age(resource: Resource[Any]) -> tuple[str, str, str]:
    """A sort key: the oldest first, those without a creation time before all; then by name and namespace."""
    return str(resource.created or ""), resource.name, resource.namespace
