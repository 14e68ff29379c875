"""Role-based access control: which requests may pass (Envoy's `rbac` filter).

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/rbac_filter

Rules:

1. Paths are matched as the connection manager has normalised them. A server behind us may still read more into one:
   merge its slashes, undo its escapes, even twice, drop its parameters, fold its case; and a host is the same with a
   port. What is denied is denied by any of these readings; what is allowed is allowed as it is written, which is all
   that Envoy knows.
2. Of a thousand policies, few are tried: each is filed by what it asks for, such as exact paths or the subject of a
   token, under that which the fewest others ask for too.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ...snapshot import (
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
    Prefix,
    Rbac,
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
from ..http.failures import RBAC_DENIED, Failure
from ..http.message import Request, Response, Service
from ..http.path import resolve_dot_segments
from ..routing.matchers import StringTest, claim_test, claimed, compile_regex, header_values, value_test
from ..routing.router import without_port
from .jwt_authn import Refuse

Count = Callable[[str], None]
"""Counts a decision, by the name that Envoy's statistics have for it."""

_audit = logging.getLogger("meshproxy.audit")


def rbac(filters: Sequence[RbacFilter], count: Count, refuse: Refuse, service: Service) -> Service:
    """`service` for the requests that each of `filters` lets pass."""
    for one in reversed(filters):
        service = _filter(one, count, refuse, service)
    return service


def _filter(config: RbacFilter, count: Count, refuse: Refuse, service: Service) -> Service:
    if config.rules is not None:
        service = _enforced(Engine(config.rules), count, refuse, service)
    if config.shadow_rules is not None:
        service = _tried(Engine(config.shadow_rules), count, service)
    return service


def _enforced(engine: Engine, count: Count, refuse: Refuse, service: Service) -> Service:
    if engine.action == "LOG":

        def audited(request: Request) -> Awaitable[Response]:
            policy = engine.find(request)
            if policy is not None:
                count("rbac_logged")
                _audit.info("%s", audit_line(request, policy))
            return service(request)

        return audited

    def enforced(request: Request) -> Awaitable[Response]:
        policy = engine.find(request)
        if engine.allows(policy):
            count("rbac_allowed")
            return service(request)
        count("rbac_denied")
        name = "none" if policy is None else policy.name
        return refuse(request, Failure(RBAC_DENIED, f"{RBAC_DENIED.details}_matched_policy[{name}]"))

    return enforced


def _tried(engine: Engine, count: Count, service: Service) -> Service:
    """`service`, the decisions of a dry run only counted."""
    outcomes = {allowed: f"rbac_shadow_{'allowed' if allowed else 'denied'}" for allowed in (True, False)}

    def tried(request: Request) -> Awaitable[Response]:
        count(outcomes[engine.allows(engine.find(request))])
        return service(request)

    return tried


def audit_line(request: Request, policy: RbacPolicy) -> str:
    """What is told of a request that a policy wants told of: no query, and no header, for these may hold secrets."""
    who = request.connection.peer_names[0] if request.connection.peer_names else request.peer
    path = request.path.partition(b"?")[0]
    parts = (who, request.method, request.authority, path, policy.name.encode())
    return " ".join(part.decode("ascii", "backslashreplace") or "-" for part in parts)


class Engine:
    """The policies of one action, compiled."""

    def __init__(self, config: Rbac) -> None:
        self.action = config.action
        self.policies = config.policies
        self._any = _any_of([_policy(one) for one in config.policies], _readings(config))

    def find(self, request: Request) -> RbacPolicy | None:
        """The first policy that a request meets."""
        place = self._any(request, Paths(request.path.partition(b"?")[0]))
        return None if place is None else self.policies[place]

    def allows(self, policy: RbacPolicy | None) -> bool:
        """Whether a request passes that meets this policy, or none."""
        return policy is not None if self.action == "ALLOW" else self.action == "LOG" or policy is None


def _policy(policy: RbacPolicy) -> AccessRule:
    return AllOf((OneOf(policy.permissions), OneOf(policy.principals)))


class Paths:
    """A request's path, and what a lenient server may read it as, found out when it is asked for."""

    __slots__ = ("_lenient", "exact")

    def __init__(self, exact: bytes) -> None:
        self.exact = exact
        self._lenient: bytes | None = None

    @property
    def lenient(self) -> bytes:
        if self._lenient is None:
            self._lenient = lenient_path(self.exact)
        return self._lenient


_READ_DIFFERENTLY = re.compile(rb"[A-Z%;\\]|//")
_PARAMETERS = re.compile(rb";[^/]*+")
_SLASHES = re.compile(rb"//++")


def lenient_path(path: bytes) -> bytes:
    """A path as the most lenient of servers reads it: escapes undone twice, backslashes turned, parameters dropped,
    slashes merged, dot segments resolved, in lower case."""
    if _READ_DIFFERENTLY.search(path) is None:
        return path
    path = unquote_to_bytes(unquote_to_bytes(path)).replace(b"\\", b"/")
    path = _SLASHES.sub(b"/", _PARAMETERS.sub(b"", path))
    return resolve_dot_segments(path).lower()


Test = Callable[[Request, Paths], bool]


def rule_test(rule: AccessRule) -> Callable[[Request], bool]:
    """Whether a rule holds for a request, by its path as it is."""
    test = _test(rule, _Readings(lenient=False))
    return lambda request: test(request, Paths(request.path.partition(b"?")[0]))


class _Readings(NamedTuple):
    """Which readings of a path count: with `lenient`, a rule holds by any of them, or only, if `certain`, by all."""

    lenient: bool
    certain: bool = False

    def inverted(self) -> _Readings:
        return self._replace(certain=not self.certain)


def _readings(config: Rbac) -> _Readings:
    return _Readings(lenient=config.action == "DENY")


def _test(rule: AccessRule, readings: _Readings) -> Test:
    """Whether a rule holds for a request."""
    match rule:
        case AnyRequest():
            return lambda request, paths: True
        case AllOf(rules):
            return _all(rules, readings)
        case OneOf(rules):
            first = _any_of(rules, readings)
            return lambda request, paths: first(request, paths) is not None
        case Not(inner):
            holds = _test(inner, readings.inverted())
            return lambda request, paths: not holds(request, paths)
        case RequestHeader(":authority", match, True) if match is not None:
            return _host(value_test(lowered(match)), readings)
        case RequestHeader():
            return _header(rule)
        case UrlPath(match):
            return _path(value_test(match), value_test(lowered(match)), readings)
        case UriTemplate(template):
            return _path(_template(template), _template(template.lower()), readings)
        case RequestedServerName(match):
            name_test = value_test(match)
            return lambda request, paths: name_test(request.connection.server_name)
        case Authenticated(match):
            peer_test = value_test(match)
            return lambda request, paths: any(map(peer_test, request.connection.peer_names))
        case Claim():
            return _claim(rule)
        case DirectRemoteIp() | RemoteIp() | DestinationIp():
            network = ip_network(rule.range, strict=False)
            length, wanted = network.prefixlen, (network.version, int(network.network_address))
            address_of = _ADDRESSES[type(rule)]
            return lambda request, paths: _network(address_of(request), length) == wanted


def _all(rules: Sequence[AccessRule], readings: _Readings) -> Test:
    tests = [_test(rule, readings) for rule in rules if rule != AnyRequest()]
    if len(tests) == 1:
        return tests[0]

    def holds(request: Request, paths: Paths) -> bool:
        for test in tests:  # noqa: SIM110 - a generator for `all` costs as much as two tests
            if not test(request, paths):
                return False
        return True

    return holds


def _path(test: StringTest, lenient: StringTest, readings: _Readings) -> Test:
    match readings:
        case (False, _):
            return lambda request, paths: test(paths.exact)
        case (True, False):
            return lambda request, paths: test(paths.exact) or lenient(paths.lenient)
        case _:
            return lambda request, paths: test(paths.exact) and lenient(paths.lenient)


def _host(test: StringTest, readings: _Readings) -> Test:
    if not readings.lenient:
        return lambda request, paths: test(request.authority.lower())

    def holds(request: Request, paths: Paths) -> bool:
        host = request.authority.lower()
        bare = lenient_host(host)
        if bare == host:
            return test(host)
        return test(host) and test(bare) if readings.certain else test(host) or test(bare)

    return holds


def lenient_host(host: bytes) -> bytes:
    """A host in lower case as the most lenient of servers reads it: without its port, and without the root's dot."""
    return without_port(host).removesuffix(b".")


def lowered(match: ValueMatcher) -> ValueMatcher:
    """A matcher in lower case; a regular expression is left as it is."""
    return match if isinstance(match, Regex) else type(match)(match.value.lower())


# What a segment of a template may be: Envoy's `uri_template_internal.cc`.
_SEGMENT = "a-zA-Z0-9-._~%!$&'()+,;:@="


def _template(template: str) -> StringTest:
    operators = {"*": f"[{_SEGMENT}]+", "**": f"[{_SEGMENT}/]*"}
    segments = (operators.get(segment) or re.escape(segment) for segment in template.split("/"))
    fullmatch = compile_regex("/".join(segments)).fullmatch
    return lambda text: fullmatch(text) is not None


def _header(rule: RequestHeader) -> Test:
    values = header_values(rule.name)
    if rule.match is None:
        return lambda request, paths: bool(values(request))
    if rule.ignore_case:
        folded = value_test(lowered(rule.match))
        return lambda request, paths: any(folded(value.lower()) for value in values(request))
    test = value_test(rule.match)
    return lambda request, paths: any(map(test, values(request)))


def _claim(rule: Claim) -> Test:
    test = claim_test(rule)
    return lambda request, paths: test(request)


def _local_ip(request: Request) -> bytes:
    return request.local_address.rpartition(":")[0].strip("[]").encode()


_ADDRESSES: Mapping[type[DirectRemoteIp | RemoteIp | DestinationIp], Callable[[Request], bytes]] = {
    DirectRemoteIp: lambda request: request.connection.peer,
    RemoteIp: lambda request: request.peer,
    DestinationIp: _local_ip,
}


@lru_cache(maxsize=16384)
def _address(text: bytes) -> tuple[int, int, int] | None:
    """An address as version, number of bits, and number; None for a Unix socket."""
    try:
        address = ip_address(text.decode("ascii", "replace"))
    except ValueError:
        return None
    return address.version, address.max_prefixlen, int(address)


def _network(text: bytes, length: int) -> tuple[int, int] | None:
    """The network of `length` bits that an address is in."""
    if (address := _address(text)) is None or length > address[1]:
        return None
    version, bits, number = address
    return version, number >> (bits - length) << (bits - length)


_FEW = 8  # so many rules are tried one after the other as quickly as they are looked up


def _any_of(rules: Sequence[AccessRule], readings: _Readings) -> Callable[[Request, Paths], int | None]:
    """The place of the first rule that holds."""
    tests = [_test(rule, readings) for rule in rules]
    if len(tests) <= _FEW:

        def tried(request: Request, paths: Paths) -> int | None:
            for place, test in enumerate(tests):
                if test(request, paths):
                    return place
            return None

        return tried
    index = _Index(rules)

    def found(request: Request, paths: Paths) -> int | None:
        for place in index.candidates(request, paths):
            if tests[place](request, paths):
                return place
        return None

    return found


_Key = tuple[str | int, object]
"""A way to be alike, and with what: `("is", b"/a")`, `("begins", b"/a")`, `("ends", b"a")`; for peers also
`("like", b".*")`; for addresses the bits of a network and the network."""
_Needs = dict["_Dimension", frozenset[_Key]]
"""What a rule needs, in each dimension: one of these keys."""


class _Index:
    """Rules, filed by what a request needs to have for one to hold; others are always candidates."""

    def __init__(self, rules: Sequence[AccessRule]) -> None:
        needs = [_needs(rule) for rule in rules]
        popularity = Counter((dimension, key) for one in needs for dimension, keys in one.items() for key in keys)
        self._always: list[int] = []
        self._filed: dict[_Dimension, dict[str | int, dict[object, list[int]]]] = {}
        self._lengths: dict[tuple[_Dimension, str], list[int]] = {}
        for place, one in enumerate(needs):
            if not one:
                self._always.append(place)
                continue
            dimension = min(one, key=lambda known: sum(popularity[known, key] for key in one[known]))
            for way, value in one[dimension]:
                self._filed.setdefault(dimension, {}).setdefault(way, {}).setdefault(value, []).append(place)
        peers = self._filed.get(_Dimension("peer"), {}).get("like", {})
        patterns = [(compile_regex(str(pattern, "utf-8")), places) for pattern, places in peers.items()]  # type: ignore[call-overload]
        # Few peers call, and each again and again.
        self._like = lru_cache(maxsize=1024)(
            lambda peer: [place for regex, places in patterns if regex.fullmatch(peer) for place in places]
        )
        for dimension, ways in self._filed.items():
            for way in ("begins", "ends"):
                parts: Iterable[object] = ways.get(way, ())
                self._lengths[dimension, way] = sorted({len(one) for one in parts if isinstance(one, bytes)})

    def candidates(self, request: Request, paths: Paths) -> Sequence[int]:
        """The places of the rules that may hold, in order."""
        found: list[int] = []
        for dimension, ways in self._filed.items():
            for text in dimension.values(request, paths):
                for way, filed in ways.items():
                    if way == "is":
                        found += filed.get(text, ())
                    elif way == "begins":
                        for length in self._lengths[dimension, way]:
                            found += filed.get(text[:length], ()) if length <= len(text) else ()
                    elif way == "ends":
                        for length in self._lengths[dimension, way]:
                            found += filed.get(text[len(text) - length :], ()) if length <= len(text) else ()
                    elif way == "like":
                        found += self._like(text)
                    elif isinstance(way, int):
                        found += filed.get(_network(text, way), ())
        return sorted({*found, *self._always}) if found else self._always


class _Dimension(NamedTuple):
    """Something of a request, such as its path, or a header: `kind` and `name` say what."""

    kind: str
    name: object = ""

    def values(self, request: Request, paths: Paths) -> Iterable[bytes]:
        """What a request has there."""
        match self.kind:
            case "path":
                return {paths.exact, paths.lenient}
            case "segment":
                assert isinstance(self.name, int)
                split = (path.split(b"/", self.name + 1) for path in {paths.exact, paths.lenient})
                return [segments[self.name] for segments in split if self.name < len(segments)]
            case "header":
                return header_values(str(self.name))(request)
            case "host":
                host = request.authority.lower()
                return {host, lenient_host(host)}
            case "peer":
                return request.connection.peer_names
            case "claim":
                assert isinstance(self.name, tuple)
                return claimed(request, self.name)
            case _:
                assert isinstance(self.name, type)
                return (_ADDRESSES[self.name](request),)


def _needs(rule: AccessRule) -> _Needs:
    match rule:
        case AllOf(rules):
            return _needs_of_all(rules)
        case OneOf(rules):
            return _needs_of_one(rules)
        case UrlPath(match):
            return _alike(_Dimension("path"), (match, lowered(match)))
        case UriTemplate(template):
            return _needs_of_template(template)
        case RequestHeader(":authority", match, True) if match is not None:
            return _alike(_Dimension("host"), (lowered(match),))
        case RequestHeader(name, match, False) if match is not None:
            return _alike(_Dimension("header", name), (match,))
        case Authenticated(Regex(pattern)):
            return {_Dimension("peer"): frozenset((("like", pattern.encode()),))}
        case Authenticated(match):
            return _alike(_Dimension("peer"), (match,))
        case Claim(path, values):
            return _alike(_Dimension("claim", path), values)
        case DirectRemoteIp() | RemoteIp() | DestinationIp():
            network = ip_network(rule.range, strict=False)
            key = (network.prefixlen, (network.version, int(network.network_address)))
            return {_Dimension("ip", type(rule)): frozenset((key,))}
    return {}


def _alike(dimension: _Dimension, matches: Iterable[ValueMatcher]) -> _Needs:
    keys: set[_Key] = set()
    for match in matches:
        if isinstance(match, Regex):
            return {}
        keys.add((_WAYS[type(match)], match.value.encode()))
    return {dimension: frozenset(keys)}


_WAYS: Mapping[type[ValueMatcher], str] = {Exact: "is", Prefix: "begins", Suffix: "ends"}


def _needs_of_template(template: str) -> _Needs:
    """Each segment that is no operator stands at its place, for only the last operator takes more than one segment."""
    needs: _Needs = {}
    for place, segment in enumerate(template.split("/")):
        if segment and segment not in ("*", "**"):
            needs |= _alike(_Dimension("segment", place), (Exact(segment), Exact(segment.lower())))
    return needs


def _needs_of_all(rules: Iterable[AccessRule]) -> _Needs:
    needs: _Needs = {}
    for rule in rules:
        for dimension, keys in _needs(rule).items():
            if dimension not in needs or len(keys) < len(needs[dimension]):
                needs[dimension] = keys
    return needs


def _needs_of_one(rules: Iterable[AccessRule]) -> _Needs:
    first, *others = (_needs(rule) for rule in rules)
    shared = {dimension for dimension in first if all(dimension in one for one in others)}
    return {dimension: frozenset(key for one in (first, *others) for key in one[dimension]) for dimension in shared}
