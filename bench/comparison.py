"""meshproxy beside other proxies, as it is told: tables, a page and a chart, out of the parts that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from pathlib import Path

from . import charts
from .cases import CASES
from .kept import Part, abouts, in_order
from .peers import ENVOY, PEERS
from .proxies import CaseResult, detail, ratios
from .report import Table
from .steady import GOAL, SteadyResult

STEADY = "steady"
NAMES = dict.fromkeys([*(case.name for case in CASES), STEADY])
"""The names of all parts, in their order."""


def tables(parts: Mapping[str, Part]) -> list[Table]:
    """An overview, and every part in detail."""
    parts = in_order(parts, NAMES)
    details = [
        SteadyResult.of(part.data).table() if name == STEADY else detail(CaseResult.of(part.data))
        for name, part in parts.items()
    ]
    return [overview(parts), *details]


def overview(parts: Mapping[str, Part]) -> Table:
    """Every proxy in every part, as ratios: of CPU time a request, and of `steady`'s 99th percentile."""
    rows = []
    names = _proxies(parts)
    for name, part in in_order(parts, NAMES).items():
        found = _ratios(name, part)
        goal = GOAL if name == STEADY else CaseResult.of(part.data).case.goal
        cells = (f"{found[proxy]:.2f}" if proxy in found else "-" for proxy in names)
        label = f"{name}: p99" if name == STEADY else name
        rows.append((label, "" if goal is None else f"≤ {goal}", *cells, f"{part.others:.0%}"))
    reference = ENVOY.name if ENVOY.name in names else names[0]
    title = f"CPU time a request, as a ratio to {reference}'s; and the share of the machine that other programs took"
    return Table(title, ("case", "goal", *names, "others"), rows)


def page(parts: Mapping[str, Part]) -> str:
    """All of it, as a section of `README.md`."""
    return "\n".join([abouts(in_order(parts, NAMES)), "", *(table.markdown() for table in tables(parts))])


def draw(path: Path, parts: Mapping[str, Part]) -> None:
    """CPU time a request, a group of bars a case. Nothing where only `steady` was measured."""
    cases = {name: _ratios(name, part) for name, part in in_order(parts, NAMES).items() if name != STEADY}
    if cases:
        values = {proxy: [found.get(proxy, nan) for found in cases.values()] for proxy in _proxies(parts)}
        charts.bars(path, overview(parts).title.partition(";")[0], list(cases), values)


def _proxies(parts: Mapping[str, Part]) -> list[str]:
    measured = {proxy for part in parts.values() for proxy in part.data["rounds"]}
    return [peer.name for peer in PEERS if peer.name in measured]


def _ratios(name: str, part: Part) -> dict[str, float]:
    """The median ratio of each proxy that was measured."""
    if name == STEADY:
        steady = SteadyResult.of(part.data)
        found = ((proxy, steady.ratios(proxy)) for proxy in steady.rounds)
        return {proxy: ratio.median for proxy, ratio in found if ratio is not None}
    result = CaseResult.of(part.data)
    return {proxy: ratios(result, proxy).median for proxy in result.rounds}
