"""TrafficLimits, and what they are for."""

from __future__ import annotations

from collections.abc import Iterator

from ...resources import Problem, TrafficLimit
from ..advice import advice
from ..limits import limited_gateways
from ..names import MESH_GATEWAY
from .scope import Scope


def unknown_gateways(scope: Scope) -> Iterator[Problem]:
    """A gateway that does not exist."""
    known = scope.mesh.gateways
    for limit in scope.of(TrafficLimit):
        for place, name in enumerate(limited_gateways(limit)):
            if name not in known and name != MESH_GATEWAY and not scope.unreadable("Gateway"):
                hint = advice(name, known, "there are no Gateways")
                yield limit.problem(("spec", "gateways", place), f"no Gateway {name!r}; {hint}")


def unknown_routes(scope: Scope) -> Iterator[Problem]:
    """The name of a route that no rule and no match has."""
    if scope.unreadable("VirtualService"):
        return
    rules = [rule for service in scope.merged for rule in service.rules]
    names = {rule.http.name for rule in rules if rule.http.name}
    full = {f"{rule.http.name or ''}.{match.request.name}" for rule in rules for match in rule.matches}
    for limit in scope.of(TrafficLimit):
        for place, name in enumerate(limit.spec.routes):
            if name not in names and name not in full:
                hint = advice(name, names, "no rule has a name")
                yield limit.problem(("spec", "routes", place), f"no rule has the name {name!r}; {hint}")
