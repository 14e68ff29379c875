"""Rules that an earlier rule of the same VirtualService always hides.

The first match wins, so a rule is hidden when for each of its matches, at each gateway, one match of an
earlier rule holds whenever it does: for every request, by `covers`, and for every proxy, by `_Proxies`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...resources import Problem, Resource, VirtualService
from ...snapshot import RouteMatch
from ..advice import listed
from ..covering import CoverIndex
from ..virtual_services import Match, MergedVirtualService, Path, Rule
from .scope import Scope


@dataclass(frozen=True, slots=True)
class _Proxies:
    """What a match asks of the proxy beside its gateway. Where gateways are named, the source has no say."""

    port: int | None
    labels: Mapping[str, str]
    namespace: str | None

    @classmethod
    def of(cls, match: Match) -> _Proxies:
        request = match.request
        if match.gateways:
            return cls(request.port, {}, None)
        return cls(request.port, request.source_labels, request.source_namespace)

    def include(self, other: _Proxies) -> bool:
        """Whether each proxy that `other` holds for is one that this holds for."""
        return (
            self.port in (None, other.port)
            and self.labels.items() <= other.labels.items()
            and self.namespace in (None, other.namespace)
        )


def hidden_rules(scope: Scope) -> Iterator[Problem]:
    """A rule that can never be the first to match; for one of a delegate, wherever it is used."""
    uses: defaultdict[tuple[Resource[VirtualService], Path], list[list[Rule]]] = defaultdict(list)
    for service in scope.merged:
        if not service.resource.is_whole("spec", "gateways"):
            continue
        hidden = hidden_by(service)
        for rule in service.rules:
            if rule.root is not None and scope.unreadable("VirtualService"):
                continue  # one of these may delegate to it where nothing hides it
            uses[rule.resource, rule.path].append(hidden.get(rule, []))
    for (resource, path), hiders in uses.items():
        if all(hiders):
            earlier = dict.fromkeys(_place(rule) for rules in hiders for rule in rules)
            message = (
                f"never applies: {listed(earlier)} comes first and takes every request that this rule would; "
                "move this rule before it, or remove one"
            )
            yield resource.problem(path, message)


def hidden_by(service: MergedVirtualService) -> dict[Rule, list[Rule]]:
    """The hidden rules of a VirtualService, each with the earlier rules that hide it."""
    indexes: defaultdict[str, CoverIndex[tuple[Rule, _Proxies]]] = defaultdict(CoverIndex)
    hidden: dict[Rule, list[Rule]] = {}
    for rule in filter(_is_whole, service.rules):
        cases = list(_cases(rule, service))
        hiders = [_hider(indexes[gateway], match, proxies) for gateway, match, proxies in cases]
        if cases and None not in hiders:
            hidden[rule] = list(dict.fromkeys(earlier for earlier in hiders if earlier is not None))
        # Only now: matches of one rule do not hide each other, they all lead to the same place.
        for gateway, match, proxies in cases:
            indexes[gateway].add(match, (rule, proxies))
    return hidden


def _is_whole(rule: Rule) -> bool:
    return rule.resource.is_whole(*rule.path) and (rule.root is None or _is_whole(rule.root))


def _hider(index: CoverIndex[tuple[Rule, _Proxies]], match: RouteMatch, proxies: _Proxies) -> Rule | None:
    return next((rule for rule, where in index.covering(match) if where.include(proxies)), None)


def _cases(rule: Rule, service: MergedVirtualService) -> Iterator[tuple[str, RouteMatch, _Proxies]]:
    """Each gateway at which each match of a rule may hold; none, if it names only gateways of others."""
    for match in rule.matches:
        route, proxies = match.route_match, _Proxies.of(match)
        for gateway in service.gateways:
            if not match.gateways or gateway in match.gateways:
                yield gateway, route, proxies


def _place(rule: Rule) -> str:
    position = rule.resource.position(*rule.path)
    return f"the rule in {position.file}:{position.line}"
