"""Trust domains that have several names, and AuthorizationPolicies that call them by one.

Source: Istio's `trustdomain.Bundle`. Whatever name of the trust domain a policy knows, it means all of them; and
`cluster.local` is the trust domain, whatever that is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..resources import AuthorizationPolicy, Condition, Resource, Rule, Source
from .mesh import Mesh
from .mutual_tls import Trust
from .names import TRUST_DOMAIN
from .policy_targets import Target

_SLASHES = 4  # of what is no more and no less than a principal, TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT


def believed(mesh: Mesh, trust: Trust | None) -> Trust | None:
    """Whose identities a proxy believes, with the names that the MeshConfig knows besides."""
    if trust is None:
        return None
    config = mesh.config
    names = dict.fromkeys((*trust.domains, config.trust_domain or trust.domain, *config.trust_domain_aliases))
    return Trust(trust.domain, tuple(names)[1:])


def policies_at(mesh: Mesh, target: Target, trust: Trust | None) -> list[Resource[AuthorizationPolicy]]:
    """The AuthorizationPolicies that hold for a proxy, with all names of the trust domain in the place of one."""
    policies = target.policies(mesh.of(AuthorizationPolicy))
    if trust is None or trust == Trust():
        return list(policies)
    return [_renamed(policy, trust) for policy in policies]


def _renamed(policy: Resource[AuthorizationPolicy], trust: Trust) -> Resource[AuthorizationPolicy]:
    rules = tuple(_rule(rule, trust) for rule in policy.spec.rules)
    return replace(policy, spec=policy.spec.model_copy(update={"rules": rules}))


def _rule(rule: Rule, trust: Trust) -> Rule:
    sources = rule.from_ and tuple(one.model_copy(update={"source": _source(one.source, trust)}) for one in rule.from_)
    return rule.model_copy(update={"from_": sources, "when": tuple(_condition(one, trust) for one in rule.when)})


def _source(source: Source, trust: Trust) -> Source:
    changed: dict[str, Any] = {
        name: tuple(principals(getattr(source, name), trust)) for name in ("principals", "not_principals")
    }
    changed |= {name: tuple(domains(getattr(source, name), trust)) for name in ("trust_domains", "not_trust_domains")}
    return source.model_copy(update=changed)


def _condition(condition: Condition, trust: Trust) -> Condition:
    rename = {"source.principal": principals, "source.trustDomain": domains}.get(condition.key)
    if rename is None:
        return condition
    values, others = rename(condition.values, trust), rename(condition.not_values, trust)
    return condition.model_copy(update={"values": tuple(values), "not_values": tuple(others)})


def principals(values: Iterable[str], trust: Trust) -> Iterator[str]:
    """Principals, those in the trust domain by each of its names."""
    for value in values:
        domain, _, path = value.partition("/")
        known = domain == TRUST_DOMAIN or any(_is(name, domain) for name in trust.domains)
        if value.count("/") != _SLASHES or not known:
            yield value
            continue
        # One that ends in what is written, behind a `*`, is meant as it is.
        yield from dict.fromkeys(value if _is(name, domain) else f"{name}/{path}" for name in trust.domains)


def domains(values: Iterable[str], trust: Trust) -> Iterator[str]:
    """Trust domains, the mesh's own by each of its names."""
    found = (trust.domains if value in trust.domains else (value,) for value in values)
    return iter(dict.fromkeys(name for names in found for name in names))


def _is(name: str, written: str) -> bool:
    """Whether a name of the trust domain is what is written, in which a `*` stands for how it begins."""
    return written != "*" and (name.endswith(written[1:]) if written.startswith("*") else name == written)
