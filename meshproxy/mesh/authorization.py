"""AuthorizationPolicies as Envoy's RBAC filters.

Source: Istio's `authz` packages (`builder.go`, `model.go`, `generator.go`). Each rule is a policy of its own, named for
where it stands; `to` makes its permissions, `from` its principals, and `when` is part of all of these. First those for
AUDIT are asked, then DENY, then ALLOW; CUSTOM is in `ext_authz`. What a policy marked by `istio.io/dry-run` would do is
only told.

A listener's port is known here, so that conditions on ports are decided here too: behind `--publish`, they are about
the Gateway's own port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import re2

from ..resources import AuthorizationPolicy, Condition, Operation, Resource, Rule, Source, is_path_template
from ..snapshot import (
    AccessRule,
    AllOf,
    AnyRequest,
    Authenticated,
    Claim,
    DestinationIp,
    DirectRemoteIp,
    Exact,
    Not,
    OneOf,
    Origin,
    Prefix,
    Rbac,
    RbacAction,
    RbacFilter,
    RbacPolicy,
    Regex,
    RemoteIp,
    RequestedServerName,
    RequestHeader,
    Suffix,
    UriTemplate,
    UrlPath,
    ValueMatcher,
)
from .mesh import Mesh
from .mutual_tls import Trust
from .policy_targets import Target
from .trust_domains import policies_at

DRY_RUN = "istio.io/dry-run"
"""The annotation by which a policy is only tried."""

NEVER = Not(AnyRequest())
_SPIFFE = "spiffe://"
_NOT_EMPTY = Regex(".+")

_ORDER: tuple[tuple[Literal["AUDIT", "DENY", "ALLOW"], RbacAction], ...] = (
    ("AUDIT", "LOG"),
    ("DENY", "DENY"),
    ("ALLOW", "ALLOW"),
)

Policy = Resource[AuthorizationPolicy]


def rbac_filters(mesh: Mesh, target: Target, port: int, trust: Trust | None = None) -> tuple[RbacFilter, ...]:
    """The filters of a listener that is known by `port`; none where no policy holds.

    `trust` is whose identities the proxy believes.
    """
    policies = policies_at(mesh, target, trust)
    filters = []
    for written, action in _ORDER:
        of_action = [policy for policy in policies if (policy.spec.action or "ALLOW") == written]
        enforced = rbac(action, [policy for policy in of_action if not is_dry_run(policy)], port)
        tried = rbac(action, [policy for policy in of_action if is_dry_run(policy)], port)
        if enforced or tried:
            filters.append(RbacFilter(enforced, tried))
    return tuple(filters)


def is_dry_run(policy: Policy) -> bool:
    """Whether a policy is only tried. Go's words for true are taken for it, as Istio does."""
    return policy.annotations.get(DRY_RUN, "") in ("1", "t", "T", "TRUE", "true", "True")


def rbac(action: RbacAction, policies: Sequence[Policy], port: int) -> Rbac | None:
    """The rules of some policies, at a listener that is known by `port`; None if there are none."""
    if not policies:
        return None
    named = {one.name: one for policy in policies for one in _policies(policy, port)}
    return Rbac(action, tuple(named[name] for name in sorted(named)))


def _policies(policy: Policy, port: int) -> Iterator[RbacPolicy]:
    rules = policy.spec.rules
    for place, rule in enumerate(rules):
        permissions, principals = _permissions(rule, port), _principals(rule, policy.namespace)
        yield RbacPolicy(_name(policy, place), permissions, principals, _origin(policy, "rules", place))
    if not rules:
        yield RbacPolicy(_name(policy, 0), (NEVER,), (NEVER,), _origin(policy))


def _name(policy: Policy, place: int) -> str:
    return f"ns[{policy.namespace}]-policy[{policy.name}]-rule[{place}]"


def _origin(policy: Policy, *path: str | int) -> Origin:
    position = policy.position("spec", *path) if path else policy.position("metadata", "name")
    where = f"spec.rules[{path[-1]}]" if path else ""
    return Origin(position.file, position.line, policy.id, where)


def _permissions(rule: Rule, port: int) -> tuple[AccessRule, ...]:
    common = [one for when in rule.when for one in _condition_of_aim(when, port)]
    return tuple(_all([*_operation(to.operation, port), *common]) for to in rule.to or ()) or (_all(common),)


def _principals(rule: Rule, namespace: str) -> tuple[AccessRule, ...]:
    common = [one for when in rule.when for one in _condition_of_origin(when, namespace)]
    return tuple(_all([*_source(one.source, namespace), *common]) for one in rule.from_ or ()) or (_all(common),)


def _all(rules: Sequence[AccessRule]) -> AccessRule:
    if not rules:
        return AnyRequest()
    return rules[0] if len(rules) == 1 else AllOf(tuple(rules))


Generator = Callable[[str], AccessRule]


def _values(generate: Generator, values: Iterable[str], not_values: Iterable[str]) -> Iterator[AccessRule]:
    """One of `values`, and none of `not_values`."""
    if wanted := tuple(map(generate, values)):
        yield _any(wanted)
    if unwanted := tuple(map(generate, not_values)):
        yield Not(_any(unwanted))


def _any(rules: tuple[AccessRule, ...]) -> AccessRule:
    return rules[0] if len(rules) == 1 else OneOf(rules)


def _operation(operation: Operation, port: int) -> Iterator[AccessRule]:
    yield from _values(_host, operation.hosts, operation.not_hosts)
    yield from _values(_method, operation.methods, operation.not_methods)
    yield from _values(_path, operation.paths, operation.not_paths)
    yield from _values(_port(port), operation.ports, operation.not_ports)


def _source(source: Source, namespace: str) -> Iterator[AccessRule]:
    account = _service_account(namespace)
    yield from _values(_principal, source.principals, source.not_principals)
    yield from _values(_request_principal, source.request_principals, source.not_request_principals)
    yield from _values(account, source.service_accounts, source.not_service_accounts)
    yield from _values(_trust_domain, source.trust_domains, source.not_trust_domains)
    yield from _values(_namespace, source.namespaces, source.not_namespaces)
    yield from _values(RemoteIp, source.remote_ip_blocks, source.not_remote_ip_blocks)
    yield from _values(DirectRemoteIp, source.ip_blocks, source.not_ip_blocks)


def _condition_of_aim(condition: Condition, port: int) -> Iterator[AccessRule]:
    generators: dict[str, Generator] = {
        "destination.ip": DestinationIp,
        "destination.port": _port(port),
        "connection.sni": lambda value: RequestedServerName(value_matcher(value)),
    }
    if (generate := generators.get(condition.key)) is not None:
        yield from _values(generate, condition.values, condition.not_values)


def _condition_of_origin(condition: Condition, namespace: str) -> Iterator[AccessRule]:
    generators: dict[str, Generator] = {
        "source.ip": DirectRemoteIp,
        "remote.ip": RemoteIp,
        "source.namespace": _namespace,
        "source.serviceAccount": _service_account(namespace),
        "source.principal": _principal,
        "source.trustDomain": _trust_domain,
        "request.auth.principal": _request_principal,
        "request.auth.audiences": _claim("aud"),
        "request.auth.presenter": _claim("azp"),
    }
    name, _, rest = condition.key.partition("[")
    if rest:
        inside = rest.removesuffix("]")
        generate = _header(inside.lower()) if name == "request.headers" else _claim(*_claim_path(inside))
        yield from _values(generate, condition.values, condition.not_values)
    elif (found := generators.get(name)) is not None:
        yield from _values(found, condition.values, condition.not_values)


def _claim_path(inside: str) -> list[str]:
    """`a][b` is the claim `b` inside of `a`; any other brackets are part of a claim's name."""
    parts = inside.split("][")
    return parts if all(part and "[" not in part and "]" not in part for part in parts) else [inside]


def value_matcher(value: str, before: str = "") -> ValueMatcher:
    """A value as policies write it, with `*` for anything (but nothing) at one of its ends; `before` goes before it."""
    if value == "*":
        return _NOT_EMPTY
    if value.startswith("*"):
        return Regex(f"{before}.*{re2.escape(value[1:])}") if before else Suffix(value[1:])
    return Prefix(before + value[:-1]) if value.endswith("*") else Exact(before + value)


def _method(value: str) -> AccessRule:
    return RequestHeader(":method", _unless_any(value))


def _host(value: str) -> AccessRule:
    return RequestHeader(":authority", _unless_any(value), ignore_case=True)


def _header(name: str) -> Generator:
    return lambda value: RequestHeader(name, _unless_any(value))


def _unless_any(value: str) -> ValueMatcher | None:
    return None if value == "*" else value_matcher(value)


def _path(value: str) -> AccessRule:
    if is_path_template(value):
        return UriTemplate(value.replace("{*}", "*").replace("{**}", "**"))
    return UrlPath(value_matcher(value))


def _port(own: int) -> Generator:
    return lambda value: AnyRequest() if int(value) == own else NEVER


def _principal(value: str) -> AccessRule:
    return Authenticated(value_matcher(value, _SPIFFE))


def _namespace(value: str) -> AccessRule:
    return Authenticated(Regex(f".*/ns/{'.*'.join(map(re2.escape, value.split('*')))}/.*"))


def _service_account(default_namespace: str) -> Generator:
    def generate(value: str) -> AccessRule:
        namespace, slash, account = value.rpartition("/")
        where = re2.escape(namespace if slash else default_namespace)
        return Authenticated(Regex(f"{_SPIFFE}.+/ns/{where}/(.+/|)sa/{re2.escape(account)}(/.+)?"))

    return generate


def _trust_domain(value: str) -> AccessRule:
    if value == "*":
        return Authenticated(Prefix(_SPIFFE))
    if "*" not in value:
        return Authenticated(Prefix(f"{_SPIFFE}{value}/"))
    return Authenticated(Regex(f"{_SPIFFE}{'[^/]*'.join(map(re2.escape, value.split('*')))}/.*"))


def _request_principal(value: str) -> AccessRule:
    """`issuer/subject`, where the issuer may hold slashes."""
    issuer, slash, subject = value.rpartition("/")
    if value == "*":
        issuer, subject = "*", "*"
    elif not slash:
        issuer, subject = ("*", value) if value.startswith("*") else (value, "*" if value.endswith("*") else "")
    elif value.startswith("*"):
        return _issued(value_matcher(issuer), Exact(subject))
    elif not value.endswith("*"):
        return _issued(Exact(issuer), Exact(subject))
    else:
        return _issued(Exact(issuer), value_matcher(subject))
    return _issued(value_matcher(issuer), value_matcher(subject))


def _issued(issuer: ValueMatcher, subject: ValueMatcher) -> AccessRule:
    return AllOf((Claim(("iss",), (issuer,)), Claim(("sub",), (subject,))))


def _claim(*path: str) -> Generator:
    return lambda value: Claim(path, (value_matcher(value),))
