"""What traffic policies cost a request that goes well: gateways that differ in nothing else are loaded in turn.

Machines drift by more than a policy costs, within seconds. So each policy is measured between two measurements of none,
and compared with their mean.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any, Self

from rich.progress import Progress

from .meshes import Resource, destination_rule, gateway, service, to_service, virtual_service
from .origin import origin
from .report import Table, figure
from .scale import Load, cpu_us, running_gateway


@dataclass(frozen=True)
class Policy:
    """What a route, and the DestinationRule of its service, say besides."""

    name: str
    route: Resource
    traffic_policy: Resource | None = None
    goal: float | None = None
    """The CPU time a request should cost at most, as a ratio to that without policies."""


_NO_RETRIES = {"retries": {"attempts": 0}}
_RETRIES = {"retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,connect-failure"}}
_TIMEOUT = {"timeout": "15s"}
_CIRCUIT_BREAKERS = {
    "connectionPool": {
        "tcp": {"maxConnections": 1000},
        "http": {"http1MaxPendingRequests": 1000, "http2MaxRequests": 1000, "maxRetries": 10},
    }
}
_OUTLIER_DETECTION = {"outlierDetection": {"consecutive5xxErrors": 5, "interval": "10s", "baseEjectionTime": "30s"}}

NONE = Policy("none", _NO_RETRIES)
POLICIES = (
    Policy("Istio's default: retries", {}, goal=1.03),
    Policy("timeout", _NO_RETRIES | _TIMEOUT),
    Policy("retries with a time limit a try", _RETRIES),
    Policy("circuit breakers", _NO_RETRIES, _CIRCUIT_BREAKERS),
    Policy("outlier detection", _NO_RETRIES, _OUTLIER_DETECTION),
    Policy("all of these", _RETRIES | _TIMEOUT, _CIRCUIT_BREAKERS | _OUTLIER_DETECTION, goal=1.1),
)


@dataclass(frozen=True)
class Costs:
    """CPU microseconds a request, a figure a round, by the policy's name; of none, before and after each of them."""

    rounds: dict[str, list[float]]

    def ratio(self, name: str) -> tuple[float, float, float]:
        """To what a request costs without policies, just before and after: the median, the least and the most."""
        none, place = self.rounds[NONE.name], [policy.name for policy in POLICIES].index(name)
        found = []
        for number, cost in enumerate(self.rounds[name]):
            before = number * (len(POLICIES) + 1) + place
            found.append(cost / mean(none[before : before + 2]))
        return median(found), min(found), max(found)

    def table(self) -> Table:
        """A row a policy."""
        rows = [(NONE.name, "", figure(median(self.rounds[NONE.name])), "", "")]
        for policy in POLICIES:
            middle, least, most = self.ratio(policy.name)
            goal = "" if policy.goal is None else f"≤ {policy.goal}"
            cost = figure(median(self.rounds[policy.name]))
            rows.append((policy.name, goal, cost, f"{middle:.2f}", f"{least:.2f}-{most:.2f}"))
        columns = ("policies", "goal", "CPU µs/request", "ratio to none", "range")
        return Table("What policies cost a request that goes well", columns, rows)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"rounds": self.rounds}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """Out of what `as_dict` made."""
        return cls(data["rounds"])


def measure(python: Path, *, rounds: int, seconds: float, progress: Progress) -> Costs:
    """Load a gateway for each of the policies, in turn."""
    order = [NONE, *(one for policy in POLICIES for one in (policy, NONE))]
    bar = progress.add_task("policies: starting", total=len(order) * (rounds + 1))
    costs: dict[str, list[float]] = {policy.name: [] for policy in (NONE, *POLICIES)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshproxy-bench-")))
        upstream = stack.enter_context(origin(folder))
        gateways = {}
        for number, policy in enumerate((NONE, *POLICIES)):
            load = Load(_mesh(upstream.endpoints, policy))
            gateways[policy.name] = stack.enter_context(running_gateway(load, folder / f"{number}", python)), load
        # The first round opens connections and fills caches; it does not count.
        for number in range(rounds + 1):
            for policy in order:
                progress.update(bar, description=f"policies: round {number} of {rounds}, {policy.name}")
                cost = cpu_us(*gateways[policy.name], seconds if number else min(seconds, 1))
                progress.advance(bar)
                if number:
                    costs[policy.name].append(cost)
    return Costs(costs)


def _mesh(endpoints: Sequence[str], policy: Policy) -> list[Resource]:
    resources = [gateway(), service(endpoints), virtual_service("routes", ["*"], [to_service() | policy.route])]
    return resources if policy.traffic_policy is None else [*resources, destination_rule(policy.traffic_policy)]
