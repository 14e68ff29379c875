"""What decides about access to a listener, in words: who is asked, whose token it is, which policy lets a request pass.

Nobody is asked to explain: what another service would decide is left open, and the request goes on as if allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ...identity.issuers import GivenKeys, Keys
from ...identity.jwks import KeySet
from ...identity.jwt import Token, TokenRefused, parse
from ...snapshot import (
    AccessRule,
    AllOf,
    AnyRequest,
    Authenticated,
    Claim,
    DestinationIp,
    DirectRemoteIp,
    Exact,
    HttpConnectionManager,
    Jwks,
    JwtProvider,
    LocalJwks,
    Not,
    OneOf,
    Origin,
    Prefix,
    Rbac,
    RbacFilter,
    RbacPolicy,
    RemoteIp,
    RemoteJwks,
    RequestedServerName,
    RequestHeader,
    Suffix,
    UriTemplate,
    UrlPath,
    ValueMatcher,
)
from ..filters.jwt_authn import tokens_of
from ..filters.rbac import Engine, rule_test
from ..http.message import Request


@dataclass(frozen=True, slots=True)
class Decision:
    """What a filter makes of a request. `origin` is where that is written, if one place decides."""

    text: str
    origin: Origin | None = None


def explained_keys(source: Jwks) -> Keys:
    """The keys by which an explanation verifies tokens: those that are given. Nothing is fetched to explain."""
    return GivenKeys(source) if isinstance(source, LocalJwks) else _Unfetched()


class _Unfetched(Keys):
    def __init__(self) -> None:
        self.current = _AnyKeys(())


class _AnyKeys(KeySet):
    """Keys that nobody knows, and that verify everything."""

    def verify(self, token: Token) -> None:
        pass


def asked_decisions(http: HttpConnectionManager) -> Callable[[Request], Iterator[Decision]]:
    """Whether another service decides about a request."""
    config = http.ext_authz
    if config is None:
        return lambda request: iter(())
    who = f"{config.name} at {config.cluster}"
    rules = [(Engine(config.rules), f"{who} is asked; this goes on as if it allowed", f"{config.name} is not asked")]
    if config.shadow_rules is not None:
        rules.insert(0, (Engine(config.shadow_rules), f"{who} would be asked if it were no dry run", ""))

    def decisions(request: Request) -> Iterator[Decision]:
        for engine, asked, not_asked in rules:
            policy = engine.find(request)
            if policy is not None:
                yield Decision(f"{asked}, by {policy.name}: {_text(policy)}", policy.origin)
            elif not_asked:
                yield Decision(not_asked, config.origin)

    return decisions


def token_decisions(http: HttpConnectionManager, request: Request) -> Iterator[Decision]:
    """What becomes of a request's tokens."""
    if http.jwt_authn is None:
        return
    found = tokens_of(http.jwt_authn, request)
    if not found:
        yield Decision("no token, which is asked for only by policies, if at all")
    for text, providers in found:
        yield _token_decision(text, providers)


def _token_decision(text: bytes, providers: Iterable[JwtProvider]) -> Decision:
    try:
        token = parse(text)
    except TokenRefused as refused:
        return Decision(f"a token that is none: {refused}")
    whose = f"a token of {token.issuer or 'nobody'}"
    if subject := token.claims.get("sub"):
        whose += f" for {subject}"
    of_issuer = [one for one in providers if one.issuer in ("", token.issuer)]
    if not of_issuer:
        return Decision(f"{whose}, whose tokens are not taken here")
    jwks = of_issuer[0].jwks
    if isinstance(jwks, RemoteJwks):
        whose += f"; its signature is not looked at, for the keys are at {jwks.uri}"
    return Decision(whose, of_issuer[0].origin)


def access_decisions(http: HttpConnectionManager) -> Callable[[Request], Iterator[Decision]]:
    """What policies decide about a request, once its tokens have been looked at."""
    engines = [(Engine(rules), tried) for one in http.rbac for rules, tried in _rules(one)]

    def decisions(request: Request) -> Iterator[Decision]:
        for engine, tried in engines:
            yield from _decisions(engine, request, " if it were no dry run" if tried else "")
            if not tried and not engine.allows(engine.find(request)):
                return

    return decisions


def _rules(one: RbacFilter) -> Iterator[tuple[Rbac, bool]]:
    """The rules of a filter, and whether they are only tried."""
    for rules, tried in ((one.shadow_rules, True), (one.rules, False)):
        if rules is not None:
            yield rules, tried


def _decisions(engine: Engine, request: Request, proviso: str) -> Iterator[Decision]:
    policy = engine.find(request)
    if policy is not None:
        verb = {"ALLOW": "allowed", "DENY": "denied", "LOG": "audited"}[engine.action]
        yield Decision(f"{verb}{proviso} by {policy.name}: {_text(policy)}", policy.origin)
    elif engine.action == "ALLOW":
        yield Decision(f"denied{proviso}: there are policies that allow, and none allows this")
        for one in engine.policies:
            yield Decision(f"not by {one.name}: not {_failed(one, request)}", one.origin)
    elif engine.action == "DENY":
        yield Decision(f"denied{proviso} by no policy")


def _failed(policy: RbacPolicy, request: Request) -> str:
    """The first thing that a policy asks for and a request has not."""
    for rules in (policy.permissions, policy.principals):
        if not any(rule_test(rule)(request) for rule in rules):
            alone = rules[0].rules if len(rules) == 1 and isinstance(rules[0], AllOf) else (OneOf(rules),)
            return describe(next(rule for rule in alone if not rule_test(rule)(request)))
    raise AssertionError(f"{request!r} meets {policy.name}")


def _text(policy: RbacPolicy) -> str:
    parts = [describe(OneOf(rules)) for rules in (policy.permissions, policy.principals)]
    return " and ".join(part for part in parts if part != _ANY) or _ANY


_ANY = "any request"


def describe(rule: AccessRule) -> str:
    """A rule in words."""
    match rule:
        case AnyRequest():
            return _ANY
        case AllOf(rules):
            return " and ".join(_inside(one) for one in rules)
        case OneOf(rules):
            return describe(rules[0]) if len(rules) == 1 else " or ".join(_inside(one) for one in rules)
        case Not(AnyRequest()):
            return "no request"
        case Not(inner):
            return f"not {_inside(inner)}"
        case RequestHeader(":method", match):
            return f"method {_like(match)}"
        case RequestHeader(":authority", match):
            return f"host {_like(match)}"
        case RequestHeader(name, match):
            return f"header {name} {_like(match)}"
        case UrlPath(match):
            return f"path {_like(match)}"
        case UriTemplate(template):
            return f"path of the form {template}"
        case DestinationIp(where):
            return f"destination {where}"
        case DirectRemoteIp(where):
            return f"source {where}"
        case RemoteIp(where):
            return f"client {where}"
        case RequestedServerName(match):
            return f"server name {_like(match)}"
        case Authenticated(match):
            return f"peer {_like(match)}"
        case Claim(path, values):
            return f"claim {'.'.join(path)} {' or '.join(map(_like, values))}"


def _inside(rule: AccessRule) -> str:
    text = describe(rule)
    return f"({text})" if isinstance(rule, OneOf | AllOf) and len(rule.rules) > 1 else text


def _like(match: ValueMatcher | None) -> str:
    match match:
        case None:
            return "present"
        case Exact(value):
            return f'"{value}"'
        case Prefix(value):
            return f'"{value}*"'
        case Suffix(value):
            return f'"*{value}"'
        case regex:
            return f'like "{regex.value}"'
