"""VirtualServices ready to be translated: names resolved, delegates' rules in place of those that delegate.

Sources: Istio's `ResolveVirtualServiceShortnames`, `mergeVirtualServices` and `MergeHTTPRoutes`. A rule that
delegates and a rule of the delegate become one rule: each match of one joined with each match of the other,
as far as they do not contradict; of everything else the delegate's own word goes first. A name belongs to the
namespace of the file it is written in, so a delegate's destinations are the delegate's neighbours, and a mirror of the
rule that delegates is that one's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..resources import Destination, HTTPMatchRequest, HTTPRoute, Resource, StringMatch, VirtualService
from ..snapshot import RouteMatch
from .matches import route_match
from .names import MESH_GATEWAY, Visibility, fqdn, gateway_name
from .ordering import age

Path = tuple[str | int, ...]

NO_CONDITIONS = HTTPMatchRequest()


@dataclass(frozen=True, eq=False)
class Match:
    """One of a rule's matches, and where it is written. `gateways`, if any, narrow the VirtualService's."""

    request: HTTPMatchRequest
    gateways: frozenset[str]
    resource: Resource[VirtualService]
    path: Path

    @cached_property
    def route_match(self) -> RouteMatch:
        """What it asks of a request. Kept, because every check and every gateway asks for it again."""
        return route_match(self.request)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One entry of `http`, after delegation: any of `matches` takes a request, which then meets `http`.

    `resource` and `path` say where it is written: in the delegate, for a rule that was delegated, and then `root` is
    the rule that delegates.
    """

    http: HTTPRoute
    matches: tuple[Match, ...]
    resource: Resource[VirtualService]
    path: Path
    root: Rule | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MergedVirtualService:
    """A VirtualService with hosts: they and its gateways by their full names, and its rules in order."""

    resource: Resource[VirtualService]
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    rules: tuple[Rule, ...]
    visibility: Visibility

    def __repr__(self) -> str:
        return f"<MergedVirtualService {self.resource.id}: {len(self.rules)} rules for {', '.join(self.hosts)}>"


Delegates = Mapping[tuple[str, str], Resource[VirtualService]]
"""VirtualServices by namespace and name; those without hosts may be delegated to."""


class VirtualServices:
    """Every VirtualService that has hosts, in Istio's order of age."""

    def __init__(self, resources: Iterable[Resource[VirtualService]]) -> None:
        resources = sorted(resources, key=age)
        self.by_name: Delegates = {(resource.namespace, resource.name): resource for resource in resources}
        self.merged = tuple(_merged(resource, self.by_name) for resource in resources if resource.spec.hosts)
        self._by_gateway: dict[str, list[MergedVirtualService]] = {}
        for service in self.merged:
            for gateway in dict.fromkeys(service.gateways):
                self._by_gateway.setdefault(gateway, []).append(service)

    def at_gateway(self, gateway: str, proxy_namespace: str) -> list[MergedVirtualService]:
        """The VirtualServices of a gateway that a proxy of `proxy_namespace` sees, in merging order.

        Those for the proxy's own namespace alone come first, then those for certain namespaces, then those
        for all.
        """
        visible = (s for s in self._by_gateway.get(gateway, ()) if s.visibility.includes(proxy_namespace))
        return sorted(visible, key=lambda service: _reach(service, proxy_namespace))


def _reach(service: MergedVirtualService, proxy_namespace: str) -> int:
    if service.visibility.everywhere:
        return 2
    return 0 if service.resource.namespace == proxy_namespace else 1


def _merged(resource: Resource[VirtualService], delegates: Delegates) -> MergedVirtualService:
    spec, namespace = resource.spec, resource.namespace
    return MergedVirtualService(
        resource=resource,
        hosts=tuple(fqdn(host, namespace) for host in spec.hosts),
        gateways=tuple(gateway_name(name, namespace) for name in spec.gateways) or (MESH_GATEWAY,),
        rules=tuple(rule for own in own_rules(resource) for rule in _delegated(own, resource, delegates)),
        visibility=Visibility.of(spec.export_to, namespace),
    )


def own_rules(resource: Resource[VirtualService]) -> Iterator[Rule]:
    """The rules that a VirtualService itself has written, before any delegation."""
    for index, http in enumerate(resource.spec.http):
        path = ("spec", "http", index)
        matches = (
            Match(
                request,
                frozenset(gateway_name(name, resource.namespace) for name in request.gateways),
                resource,
                (*path, "match", place),
            )
            for place, request in enumerate(http.match)
        )
        yield Rule(http, tuple(matches) or (Match(NO_CONDITIONS, frozenset(), resource, path),), resource, path)


def _delegated(rule: Rule, root: Resource[VirtualService], delegates: Delegates) -> Iterator[Rule]:
    if rule.http.delegate is None:
        yield rule
        return
    delegate = find_delegate(rule, delegates)
    if delegate is None or not may_delegate(root, delegate):
        return  # Istio leaves out the rule and keeps the others; `check` tells of it
    for delegated in own_rules(delegate):
        if (merged := merge_rules(rule, delegated)) is not None:
            yield merged


def find_delegate(rule: Rule, delegates: Delegates) -> Resource[VirtualService] | None:
    """The VirtualService that a rule delegates to, fit for it or not; None if there is none of its name."""
    assert rule.http.delegate is not None
    namespace = rule.http.delegate.namespace or rule.resource.namespace
    return delegates.get((namespace, rule.http.delegate.name))


def may_delegate(root: Resource[VirtualService], delegate: Resource[VirtualService]) -> bool:
    """Whether `root` may use `delegate`: it has no hosts of its own, and the root's namespace sees it."""
    visibility = Visibility.of(delegate.spec.export_to, delegate.namespace)
    return not delegate.spec.hosts and visibility.includes(root.namespace)


_INHERITED = (
    *("rewrite", "direct_response", "headers", "timeout", "retries", "fault", "cors_policy"),
    *("mirror", "mirrors", "mirror_percent", "mirror_percentage"),
)
"""What a delegate's rule takes from the rule that delegates where it has none itself; nothing else is."""


def merge_rules(root: Rule, delegated: Rule) -> Rule | None:
    """The rule that delegation makes; None if a match of the delegate contradicts every one of the root."""
    if not root.http.match:
        matches = delegated.matches
    elif not delegated.http.match:
        matches = root.matches
    else:
        joined = [[_join(r, d) for r in root.matches if not contradict(r, d)] for d in delegated.matches]
        if not all(joined):
            return None
        matches = tuple(match for of_one in joined for match in of_one)
    to_inherit = _with_full_names(root)
    inherited: dict[str, Any] = {
        name: getattr(to_inherit, name) for name in _INHERITED if getattr(delegated.http, name) in (None, ())
    }
    inherited["name"] = "-".join(filter(None, (root.http.name, delegated.http.name))) or None
    return Rule(delegated.http.model_copy(update=inherited), matches, delegated.resource, delegated.path, root)


def _with_full_names(rule: Rule) -> HTTPRoute:
    """What a rule says, its mirrors by names that mean the same in every namespace."""
    http, namespace = rule.http, rule.resource.namespace

    def full(destination: Destination) -> Destination:
        return destination.model_copy(update={"host": fqdn(destination.host, namespace)})

    mirrors = tuple(one.model_copy(update={"destination": full(one.destination)}) for one in http.mirrors)
    return http.model_copy(update={"mirror": http.mirror and full(http.mirror), "mirrors": mirrors})


_PARTS = ("uri", "scheme", "method", "authority")
_MAPS = ("headers", "without_headers", "query_params")


def _join(root: Match, delegated: Match) -> Match:
    """Both matches as one: the delegate's conditions, and the root's where it has none."""
    ours, theirs = root.request, delegated.request
    update: dict[str, Any] = {
        name: getattr(theirs, name) or getattr(ours, name)
        for name in (*_PARTS, "port", "source_namespace", "stat_prefix")
    }
    update |= {name: {**getattr(ours, name), **getattr(theirs, name)} for name in (*_MAPS, "source_labels")}
    update["name"] = "-".join(filter(None, (ours.name, theirs.name))) or None
    request = theirs.model_copy(update=update)
    return Match(request, delegated.gateways or root.gateways, delegated.resource, delegated.path)


def contradict(root: Match, delegated: Match) -> bool:
    """Whether the delegate's match asks for something that the root's does not let through to it."""
    ours, theirs = root.request, delegated.request
    pairs = [(getattr(ours, name), getattr(theirs, name)) for name in _PARTS]
    for name in _MAPS:
        wanted = getattr(ours, name)
        pairs += [(wanted.get(key), given) for key, given in getattr(theirs, name).items()]
    return (
        any(_texts_contradict(one, other) for one, other in pairs)
        or ours.ignore_uri_case != theirs.ignore_uri_case
        or bool(ours.port and theirs.port and ours.port != theirs.port)
        or bool(ours.source_namespace and ours.source_namespace != theirs.source_namespace)
        or any(ours.source_labels.get(key, value) != value for key, value in theirs.source_labels.items())
        or bool(root.gateways and delegated.gateways and not delegated.gateways <= root.gateways)
    )


def _texts_contradict(root: StringMatch | None, delegated: StringMatch | None) -> bool:
    """A delegate may narrow a prefix or say the same; expressions cannot be compared, so none go together."""
    if root is None or delegated is None:
        return False
    if root.regex or delegated.regex:
        return True
    if root.exact:
        return delegated.exact != root.exact
    narrower = delegated.prefix or delegated.exact
    return not (root.prefix and narrower and narrower.startswith(root.prefix))
