"""Rules that delegate, and the VirtualServices that they delegate to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ...resources import Problem, Resource, VirtualService
from ..advice import advice, listed
from ..virtual_services import Rule, find_delegate, may_delegate, merge_rules, own_rules
from .scope import Scope


def unusable_delegates(scope: Scope) -> Iterator[Problem]:
    """A delegate that does not exist, has hosts of its own, or is not exported to where it is used."""
    for root, rule in _delegating(scope):
        assert rule.http.delegate is not None
        if not root.is_whole(*rule.path, "delegate"):
            continue
        delegate = find_delegate(rule, scope.mesh.virtual_services.by_name)
        path = (*rule.path, "delegate", "name")
        if delegate is None:
            namespace = rule.http.delegate.namespace or root.namespace
            yield from _unknown_delegate(scope, root, rule, namespace)
        elif delegate.spec.hosts:
            message = f"{delegate.id} has hosts of its own, so that no rule can delegate to it; remove its hosts"
            yield root.problem(path, message)
        elif not may_delegate(root, delegate):
            message = f"{delegate.id} is not exported to namespace {root.namespace!r}; add that to its exportTo"
            yield root.problem(path, message)


def _unknown_delegate(scope: Scope, root: Resource[VirtualService], rule: Rule, namespace: str) -> Iterator[Problem]:
    assert rule.http.delegate is not None
    name = rule.http.delegate.name
    if f"VirtualService/{name}.{namespace}" in scope.invalid:
        return
    fit = [service for service in scope.virtual_services if not service.spec.hosts]
    known = [f"{service.namespace}/{service.name}" for service in fit]
    namesakes = [other for other in known if other.endswith(f"/{name}")]
    hint = advice(f"{namespace}/{name}", known, "there is none without hosts", likely=namesakes)
    yield root.problem((*rule.path, "delegate", "name"), f"no VirtualService {namespace}/{name}; {hint}")


def contradictory_rules(scope: Scope) -> Iterator[Problem]:
    """A delegate's rule whose matches contradict those of every rule that delegates to it."""
    if scope.unreadable("VirtualService"):
        return  # one of them may delegate without a contradiction
    roots: defaultdict[Resource[VirtualService], list[Rule]] = defaultdict(list)
    for root, rule in _delegating(scope):
        delegate = find_delegate(rule, scope.mesh.virtual_services.by_name)
        if delegate is not None and may_delegate(root, delegate):
            roots[delegate].append(rule)
    for delegate, delegating in roots.items():
        for delegated in own_rules(delegate):
            if all(merge_rules(rule, delegated) is None for rule in delegating):
                places = listed(f"{rule.resource.id} in {_place(rule)}" for rule in delegating)
                message = f"contradicts the match of the rule that delegates to it, so nothing can match: {places}"
                yield delegate.problem((*delegated.path, "match"), message)


def _delegating(scope: Scope) -> Iterator[tuple[Resource[VirtualService], Rule]]:
    for service in scope.merged:
        for rule in own_rules(service.resource):
            if rule.http.delegate is not None:
                yield service.resource, rule


def _place(rule: Rule) -> str:
    position = rule.resource.position(*rule.path)
    return f"{position.file}:{position.line}"
