"""VirtualService: which requests for which hosts go where.

Source: Istio's `networking/v1alpha3/virtual_service.proto`, and the admission webhook's rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

import re2
from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, ValidationInfo, field_validator

from .heads import (
    Authority,
    UriText,
    cors_header_error,
    header_errors,
    is_authority,
    match_header_error,
    removed_header_errors,
    uri_error,
)
from .model import Model, NotYet, Ruled, Wrong, raise_wrongs
from .types import (
    Base64,
    Bool,
    DestinationHost,
    DNSLabel,
    ExportTo,
    HostOrIP,
    Labels,
    NonNegative,
    PercentInt,
    PercentNumber,
    PortNumber,
    PositiveDuration,
    Regex,
    Subnet,
    Text,
    TimeLimit,
    WildcardHost,
    checked,
    fqdn_error,
    group_count,
    hosts_overlap,
    is_dns_label,
    one_of_texts,
)

MESH = "mesh"
MAX_BODY_BYTES = 1024 * 1024

# The codes that Envoy's RedirectResponseCode knows; Istio drops a redirect with any other.
RedirectCode = Literal[301, 302, 303, 307, 308]


class StringMatch(Ruled):
    """How to compare a text. At most one member is given; none of them, for a header or a query
    parameter, means that it only has to be there."""

    exact: str | None = None
    prefix: str | None = None
    regex: Regex | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        given = self.model_fields_set
        if len(given) > 1:
            yield (), f"give one of exact, prefix and regex, not {' and '.join(sorted(given))}"


def _not_empty(match: StringMatch) -> StringMatch:
    if not match.model_fields_set:
        raise ValueError("give one of exact, prefix or regex")
    return match


def _prefix_not_empty(match: StringMatch) -> StringMatch:
    if match.prefix == "":
        raise_wrongs(
            "StringMatch",
            [(("prefix",), "an empty prefix matches anything; remove the condition or fill it")],
        )
    return match


def _exact_not_empty(match: StringMatch) -> StringMatch:
    if match.exact == "":
        raise_wrongs("StringMatch", [(("exact",), "no origin is empty; write one as in https://example.com")])
    return match


def _header_names(matches: dict[str, StringMatch]) -> dict[str, StringMatch]:
    raise_wrongs("headers", _header_name_errors(matches))
    return matches


def _header_name_errors(names: Iterable[str]) -> Iterator[Wrong]:
    for name in names:
        reason = match_header_error(name)
        if reason is not None:
            yield (name,), reason


def _star_is_presence(matches: Any) -> Any:
    """Istio reads `regex: "*"`, which RE2 would refuse, as presence under withoutHeaders."""
    if not isinstance(matches, dict):
        return matches
    return {name: {} if match == {"regex": "*"} else match for name, match in matches.items()}


# Envoy's path match allows the empty prefix; its string matcher does not.
UriMatch = Annotated[StringMatch, AfterValidator(_not_empty)]
TextMatch = Annotated[StringMatch, AfterValidator(_not_empty), AfterValidator(_prefix_not_empty)]
OriginMatch = Annotated[TextMatch, AfterValidator(_exact_not_empty)]
PresenceMatch = Annotated[StringMatch, AfterValidator(_prefix_not_empty)]


def gateway_name_errors(gateways: Iterable[str]) -> Iterator[Wrong]:
    """What is wrong with the names of gateways: `mesh`, `namespace/name`, or a name or FQDN."""
    for index, gateway in enumerate(gateways):
        namespace, slash, name = gateway.partition("/")
        if slash and not (is_dns_label(namespace) and is_dns_label(name)):
            yield (index,), f"{gateway!r} is no gateway's name; write namespace/name"
        elif not slash and (reason := fqdn_error(gateway)):
            yield (index,), f"no gateway's name: {reason}; write namespace/name, or {MESH!r} for all sidecars"


def _gateway_names(gateways: tuple[str, ...]) -> tuple[str, ...]:
    raise_wrongs("gateways", gateway_name_errors(gateways))
    return gateways


GatewayNames = Annotated[tuple[str, ...], AfterValidator(_gateway_names)]


class PortSelector(Model):
    """A port of a service, by number."""

    number: PortNumber


class Destination(Model):
    """A service, one of its subsets if need be, and its port. The port may be left out where the
    service has only one."""

    host: DestinationHost
    subset: DNSLabel | None = None
    port: PortSelector | None = None


class HeaderOperations(Model):
    """Changes to headers: `set` overwrites, `add` appends, `remove` deletes."""

    set: dict[str, str] = Field(default_factory=dict)
    add: dict[str, str] = Field(default_factory=dict)
    remove: tuple[str, ...] = ()


class Headers(Ruled):
    """Changes to the headers of the request on its way up and of the response on its way down."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        for side, operations, authority in (
            ("request", self.request, True),
            ("response", self.response, False),
        ):
            if operations is None:
                continue
            for name, headers in (("set", operations.set), ("add", operations.add)):
                for path, message in header_errors(headers, authority=authority):
                    yield (side, name, *path), message
            for path, message in removed_header_errors(operations.remove):
                yield (side, "remove", *path), message


class HTTPMatchRequest(Model):
    """Conditions on a request; all that are given have to hold."""

    name: str | None = None
    uri: UriMatch | None = None
    scheme: TextMatch | None = None
    method: TextMatch | None = None
    authority: TextMatch | None = None
    headers: Annotated[dict[str, PresenceMatch], AfterValidator(_header_names)] = Field(default_factory=dict)
    port: PortNumber | None = None
    source_labels: Labels = Field(default_factory=dict)
    gateways: GatewayNames = ()
    query_params: dict[str, PresenceMatch] = Field(default_factory=dict)
    ignore_uri_case: Bool = False
    without_headers: Annotated[
        dict[str, PresenceMatch], BeforeValidator(_star_is_presence), AfterValidator(_header_names)
    ] = Field(default_factory=dict)
    source_namespace: DNSLabel | None = None
    stat_prefix: str | None = None


class HTTPRouteDestination(Model):
    """One of a route's destinations, with its share of the requests."""

    destination: Destination
    weight: NonNegative | None = None
    headers: Headers | None = None


class RouteDestination(Model):
    """One of the destinations of a TCP or TLS route, with its share of the connections."""

    destination: Destination
    weight: NonNegative | None = None


# A backslash and what it escapes, nothing at the end of the text.
_ESCAPED = re2.compile(r"\\([\\0-9]|[^\\0-9]|$)")


class RegexRewrite(Ruled):
    """Replace what a regular expression finds in the path; `\\1` stands for its first group."""

    match: Regex
    rewrite: Annotated[Text, checked(uri_error)]

    def broken_rules(self) -> Iterator[Wrong]:
        # As RE2's CheckRewriteString, which Envoy asks.
        groups = group_count(self.match)
        for escaped in _ESCAPED.findall(self.rewrite):
            if escaped.isdigit() and int(escaped) > groups:
                count = f"{groups} group{'' if groups == 1 else 's'}"
                yield ("rewrite",), f"\\{escaped} stands for a group that match does not have; it has {count}"
            elif not (escaped.isdigit() or escaped == "\\"):
                yield ("rewrite",), r"a '\' stands before a group's number only; write \\ for one that is meant"


class HTTPRewrite(Ruled):
    """Another path or authority for the request that goes upstream."""

    uri: UriText | None = None
    authority: Authority | None = None
    uri_regex_rewrite: RegexRewrite | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.uri and self.uri_regex_rewrite:
            yield (), "give one of uri and uriRegexRewrite, not both"
        if not (self.uri or self.uri_regex_rewrite or self.authority):
            yield (), "rewrites nothing; give uri, uriRegexRewrite or authority"


class HTTPRedirect(Ruled):
    """Send the client elsewhere. The code is 301 unless given."""

    uri: UriText | None = None
    authority: Authority | None = None
    port: PortNumber | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: Annotated[str, one_of_texts("http", "https")] | None = None
    redirect_code: RedirectCode | None = None
    prefix_rewrite: UriText | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.uri and self.prefix_rewrite:
            yield (), "give one of uri and prefixRewrite, not both"
        if self.port is not None and self.derive_port is not None:
            yield (), "give one of port and derivePort, not both"
        given = (self.uri, self.prefix_rewrite, self.authority, self.port, self.derive_port, self.scheme)
        if not any(given):
            yield (), "leads nowhere; give uri, prefixRewrite, authority, port, derivePort or scheme"


class HTTPBody(Ruled):
    """The body of a response: plain text, or bytes that are written as base64."""

    string: str | None = None
    bytes: Base64 | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.string is not None and self.bytes is not None:
            yield (), "give one of string and bytes, not both"
        if self.size() > MAX_BODY_BYTES:
            yield (), f"a body of {self.size()} bytes; {MAX_BODY_BYTES} are the most"

    def size(self) -> int:
        """The body's length in bytes."""
        return len((self.string or "").encode()) if self.bytes is None else len(self.bytes)


class HTTPDirectResponse(Model):
    """Answer right here."""

    status: Annotated[int, Field(strict=True, ge=200, le=599)]
    body: HTTPBody | None = None


class Delegate(Model):
    """Another VirtualService, one without hosts, whose http rules stand in for this one."""

    name: Text
    namespace: DNSLabel | None = None


def _countable(percent: float) -> float:
    if 0 < percent < 0.0001:
        raise ValueError(f"{percent:g} is neither 0 nor at least 0.0001, the smallest share that counts")
    return percent


class Percent(Model):
    """A share of the requests, in percent; fractions down to 0.0001 count."""

    value: Annotated[PercentNumber, AfterValidator(_countable)] = 0.0


# Envoy's conditions of x-envoy-retry-on, and of x-envoy-retry-grpc-on.
_RETRY_CONDITIONS = (
    *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream"),
    *("retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"),
    *("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"),
)
_STATUS_CODES = frozenset(str(status.value) for status in HTTPStatus)


class HTTPRetry(Ruled):
    """How often, when and with what patience to try again. No `attempts`, no retries; without any of this, Istio's
    default: two, where nothing can have been served."""

    attempts: NonNegative = 0
    per_try_timeout: PositiveDuration | None = None
    retry_on: str | None = None
    retry_remote_localities: Bool | None = None
    retry_ignore_previous_hosts: Bool | None = None
    backoff: PositiveDuration | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        for one in (self.retry_on or "").split(",") if self.retry_on else ():
            if one not in _RETRY_CONDITIONS and one not in _STATUS_CODES:
                known = ", ".join(_RETRY_CONDITIONS)
                yield ("retryOn",), f"{one!r} is no condition; use status codes or {known}, joined by commas alone"
        if not self.attempts:
            for name, value in (
                ("perTryTimeout", self.per_try_timeout),
                ("retryOn", self.retry_on or None),
                ("retryRemoteLocalities", self.retry_remote_localities),
            ):
                if value is not None:
                    yield (name,), "says how to retry, and without attempts there are no retries; give attempts too"


class Delay(Ruled):
    """Hold some of the requests back: `percentage` of them or, if that is not given, `percent`; without both, none."""

    percent: PercentInt | None = None
    fixed_delay: PositiveDuration | None = None
    exponential_delay: PositiveDuration | None = None
    percentage: Percent | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.exponential_delay is not None:
            yield ("exponentialDelay",), "Istio never built exponentialDelay; use fixedDelay"
        elif self.fixed_delay is None:
            yield (), "says not how long; give fixedDelay"


GRPC_STATUSES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
"""The names of gRPC's status codes, each at the place of its number."""


class Abort(Ruled):
    """Fail `percentage` of the requests; none, if it is not given."""

    http_status: Annotated[int, Field(strict=True, ge=200, le=599)] | None = None
    grpc_status: Annotated[str, one_of_texts(*GRPC_STATUSES)] | None = None
    http2_error: str | None = None
    percentage: Percent | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.http2_error is not None:
            yield ("http2Error",), "Istio never built http2Error; use httpStatus or grpcStatus"
        if self.http_status is not None and self.grpc_status is not None:
            yield (), "give one of httpStatus and grpcStatus, not both"
        if self.http_status is None and self.grpc_status is None and self.http2_error is None:
            yield (), "says not how requests fail; give httpStatus or grpcStatus"


class HTTPFaultInjection(Ruled):
    """Faults on purpose, to see how clients bear them."""

    delay: Delay | None = None
    abort: Abort | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if self.delay is None and self.abort is None:
            yield (), "injects no fault; give delay or abort"


class HTTPMirrorPolicy(Model):
    """Send a copy of some of the requests to another service as well."""

    destination: Destination
    percentage: Percent | None = None


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")


def _whole_seconds(duration: float) -> float:
    if not duration.is_integer():
        raise ValueError("browsers count whole seconds here; round it")
    return duration


CorsMethods = tuple[Annotated[str, one_of_texts(*_METHODS)], ...]
CorsHeaders = tuple[Annotated[str, checked(cors_header_error)], ...]


class CorsPolicy(Model):
    """What scripts of other origins may do (the Fetch standard's CORS protocol).

    `allow_origin` is the old form of `allow_origins`, which goes before it.
    """

    allow_origin: tuple[Text, ...] = ()
    allow_origins: tuple[OriginMatch, ...] = ()
    allow_methods: CorsMethods = ()
    allow_headers: CorsHeaders = ()
    expose_headers: CorsHeaders = ()
    max_age: Annotated[PositiveDuration, AfterValidator(_whole_seconds)] | None = None
    allow_credentials: Bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] | None = None


class HTTPRoute(Ruled):
    """A rule: the requests that any of `match` takes, and what becomes of them: they go to `route`, or are
    answered by `redirect` or `direct_response`, or `delegate` decides. No match takes every request."""

    name: str | None = None
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: TimeLimit | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: PercentInt | None = Field(None, validation_alias=AliasChoices("mirrorPercent", "mirror_percent"))
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        yield from self._action_errors()
        yield from self._authority_errors()
        if len(self.route) > 1 and not sum(destination.weight or 0 for destination in self.route):
            yield ("route",), "the weights of the destinations add up to 0; give each its share as `weight`"
        if self.redirect and self.redirect.prefix_rewrite:
            for index, match in enumerate(self.match):
                if match.uri is not None and match.uri.prefix is None:
                    yield (
                        ("match", index, "uri"),
                        "redirect.prefixRewrite replaces a prefix; match the uri by prefix",
                    )
        if self.mirror and self.mirrors:
            yield ("mirror",), "give one of mirror and mirrors, not both"

    def _action_errors(self) -> Iterator[Wrong]:
        actions = {
            "route": self.route,
            "redirect": self.redirect,
            "directResponse": self.direct_response,
            "delegate": self.delegate,
        }
        given = [name for name, action in actions.items() if action]
        if not given:
            yield (
                (),
                "says not what becomes of the requests; give route, redirect, directResponse or delegate",
            )
        if len(given) > 1:
            yield (), f"give one of route, redirect, directResponse and delegate, not {' and '.join(given)}"
        if self.redirect or self.direct_response:
            for name, extra in (
                ("rewrite", self.rewrite),
                ("fault", self.fault),
                ("corsPolicy", self.cors_policy),
                ("mirror", self.mirror),
                ("mirrors", self.mirrors),
            ):
                if extra:
                    yield (
                        (name,),
                        f"{name} is about what goes upstream, and nothing does beside {given[0]}; remove one",
                    )

    def _authority_errors(self) -> Iterator[Wrong]:
        """The authority may be changed in one place only."""
        request = self.headers.request if self.headers else None
        changes: list[tuple[str | int, ...]] = []
        if self.rewrite and self.rewrite.authority:
            changes.append(("rewrite", "authority"))
        if request:
            changes += [("headers", "request", "set", name) for name in request.set if is_authority(name)]
            changes += [("headers", "request", "add", name) for name in request.add if is_authority(name)]
        for path in changes[1:]:
            yield path, "the authority is already changed by another setting of this rule; keep one"


class TLSMatchAttributes(Model):
    """Conditions on a TLS connection that is passed through."""

    sni_hosts: Annotated[tuple[WildcardHost, ...], Field(min_length=1)]
    destination_subnets: tuple[Subnet, ...] = ()
    port: PortNumber | None = None
    source_labels: Labels = Field(default_factory=dict)
    gateways: GatewayNames = ()
    source_namespace: DNSLabel | None = None


class TLSRoute(Model):
    """A rule for TLS connections that are passed through."""

    match: Annotated[tuple[TLSMatchAttributes, ...], Field(min_length=1)]
    route: Annotated[tuple[RouteDestination, ...], Field(min_length=1)]


class L4MatchAttributes(Model):
    """Conditions on a TCP connection."""

    destination_subnets: tuple[Subnet, ...] = ()
    port: PortNumber | None = None
    source_subnet: Subnet | None = None
    source_labels: Labels = Field(default_factory=dict)
    gateways: GatewayNames = ()
    source_namespace: DNSLabel | None = None


class TCPRoute(Model):
    """A rule for TCP connections."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: Annotated[tuple[RouteDestination, ...], Field(min_length=1)]


class VirtualService(Ruled):
    """The rules for some hosts, at some gateways. Without hosts, the rules that another one delegates to."""

    hosts: tuple[HostOrIP, ...] = ()
    gateways: GatewayNames = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: Annotated[tuple[TLSRoute, ...], NotYet("routing of TLS connections")] = ()
    tcp: Annotated[tuple[TCPRoute, ...], NotYet("routing of TCP connections")] = ()
    export_to: ExportTo = ()

    @field_validator("hosts")
    @classmethod
    def _hosts_apart(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        raise_wrongs("hosts", _overlaps(hosts))
        return hosts

    @field_validator("gateways")
    @classmethod
    def _fit_hosts(cls, gateways: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "hosts" in info.data and not info.data["hosts"] and gateways:
            raise ValueError(
                "a VirtualService without hosts is one to delegate to, and takes its gateways from the other"
            )
        return gateways

    def broken_rules(self) -> Iterator[Wrong]:
        if not (self.http or self.tls or self.tcp):
            yield (), "has no rules; give http"
        if "*" in self.hosts and (not self.gateways or MESH in self.gateways):
            message = "'*' cannot be for all the mesh; name hosts, or bind it to a gateway with `gateways`"
            yield ("hosts", self.hosts.index("*")), message
        if self.hosts:
            yield from self._shares_of_no_mirror()
        else:
            for index, rule in enumerate(self.http):
                if rule.delegate:
                    yield (
                        ("http", index, "delegate"),
                        "a VirtualService that is delegated to cannot delegate on",
                    )

    def _shares_of_no_mirror(self) -> Iterator[Wrong]:
        """Where there is delegation, the mirror may be in the one rule and its share in the other."""
        for index, rule in enumerate(self.http):
            if rule.mirror is None and rule.delegate is None:
                for name, share in (
                    ("mirrorPercent", rule.mirror_percent),
                    ("mirrorPercentage", rule.mirror_percentage),
                ):
                    if share is not None:
                        yield ("http", index, name), "is a share of what goes to `mirror`, which is not given"


def _overlaps(hosts: tuple[str, ...]) -> Iterator[Wrong]:
    for index, host in enumerate(hosts):
        other = next((earlier for earlier in hosts[:index] if hosts_overlap(earlier, host)), None)
        if other == host:
            yield (index,), f"{host!r} is in the list twice; keep one"
        elif other is not None:
            yield (index,), f"{host!r} and {other!r} cover the same hosts; keep one"
