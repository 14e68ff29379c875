"""AuthorizationPolicy, PeerAuthentication and RequestAuthentication: who callers are, and what they may do.

Source: Istio's `security/v1beta1` protos, and the validation in its CRDs.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

import re2
from pydantic import AfterValidator, AliasChoices, Field

from .heads import limited_header_error
from .model import Model, Ruled, Wrong, camel_case
from .targets import TargetReference, TargetReferences, WorkloadLabels
from .types import Bool, PositiveDuration, Text, checked

Action = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
MutualTLSMode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]

MATCH_ONE, MATCH_ANY = "{*}", "{**}"
"""The operators of a path template: one segment of a path, and any number of them."""

# RFC 3986, section 3.3: pchar, without what Envoy reads as an operator.
_TEMPLATE_SEGMENT = re2.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@]+")


def ip_block_error(block: str) -> str | None:
    """Why the text is neither an address nor a range of them."""
    address, slash, _ = block.partition("/")
    try:
        ipaddress.ip_address(address)
        if slash:
            ipaddress.ip_network(block, strict=False)
    except ValueError:
        return f"{block!r} is not an IP address or a range of them; write 10.1.2.3 or 10.1.0.0/16"
    return None


def port_error(port: str) -> str | None:
    """Why the text is not a port's number."""
    if port.isascii() and port.isdigit() and int(port) <= 65535:
        return None
    return f"{port!r} is not a port; write its number, from 0 to 65535, as text"


def service_account_error(account: str) -> str | None:
    """Why the text does not name a service account."""
    if "*" in account:
        return f"{account!r} has a '*', which stands for itself in no service account; name each"
    if account.count("/") <= 1 and all(account.split("/")):
        return None
    return f"{account!r} is not a service account; write its name, or namespace/name"


def trust_domain_error(domain: str) -> str | None:
    """Why the text is not a trust domain with at most one `*`, at its start or its end."""
    if "/" in domain:
        return f"{domain!r} is not a trust domain, which has no '/'; write it as in cluster.local"
    if domain.count("*") > 1 or "*" in domain[1:-1]:
        return f"{domain!r} has a '*' inside; it can stand at the start or at the end, once"
    return None


def path_error(path: str) -> str | None:
    """Why the text is not a path, with a `*` at one end, or a template of paths."""
    template = is_path_template(path)
    if template and not path.startswith("/"):
        return f"{path!r} is a template of paths, which begins with '/'"
    ended = False
    for segment in path.strip("/").split("/"):
        if segment in (MATCH_ONE, MATCH_ANY):
            if ended:
                return f"{path!r} has an operator behind {MATCH_ANY}, which has to be the last one"
            ended = segment == MATCH_ANY
        elif "{" in segment or "}" in segment:
            return f"{path!r} has braces in {segment!r}; a segment of its own may be {MATCH_ONE} or {MATCH_ANY}"
        elif template and not _TEMPLATE_SEGMENT.fullmatch(segment):
            return f"{path!r} is a template, and no segment of a template can be {segment!r}"
    return None


def is_path_template(path: str) -> bool:
    """Whether a path has operators of a template."""
    return MATCH_ONE in path or MATCH_ANY in path


IpBlock = Annotated[str, checked(ip_block_error)]
Path = Annotated[Text, checked(path_error)]
Port = Annotated[str, checked(port_error)]
TrustDomain = Annotated[Text, checked(trust_domain_error)]
ServiceAccounts = Annotated[
    tuple[Annotated[str, Field(max_length=320), checked(service_account_error)], ...], Field(max_length=16)
]


class Source(Ruled):
    """Where a request comes from; all that is given has to hold. `not...` takes the requests that do not match."""

    principals: tuple[Text, ...] = ()
    not_principals: tuple[Text, ...] = ()
    request_principals: tuple[Text, ...] = ()
    not_request_principals: tuple[Text, ...] = ()
    namespaces: tuple[Text, ...] = ()
    not_namespaces: tuple[Text, ...] = ()
    service_accounts: ServiceAccounts = ()
    not_service_accounts: ServiceAccounts = ()
    trust_domains: tuple[TrustDomain, ...] = ()
    not_trust_domains: tuple[TrustDomain, ...] = ()
    ip_blocks: tuple[IpBlock, ...] = ()
    not_ip_blocks: tuple[IpBlock, ...] = ()
    remote_ip_blocks: tuple[IpBlock, ...] = ()
    not_remote_ip_blocks: tuple[IpBlock, ...] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        if not any(getattr(self, name) for name in type(self).model_fields):
            yield (), "says nothing of a source; give principals, namespaces, ipBlocks or others, or remove it"
        others = (self.principals, self.not_principals, self.namespaces, self.not_namespaces)
        if (self.service_accounts or self.not_service_accounts) and any(others):
            yield (), "give serviceAccounts, or principals and namespaces, not both"


class Operation(Ruled):
    """What a request asks for; all that is given has to hold. Ports are written as text."""

    hosts: tuple[Text, ...] = ()
    not_hosts: tuple[Text, ...] = ()
    ports: tuple[Port, ...] = ()
    not_ports: tuple[Port, ...] = ()
    methods: tuple[Text, ...] = ()
    not_methods: tuple[Text, ...] = ()
    paths: tuple[Path, ...] = ()
    not_paths: tuple[Path, ...] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        if not any(getattr(self, name) for name in type(self).model_fields):
            yield (), "says nothing of an operation; give hosts, ports, methods or paths, or remove it"


_VALUES: dict[str, Callable[[str], str | None] | None] = {
    "source.ip": ip_block_error,
    "remote.ip": ip_block_error,
    "source.namespace": None,
    "source.serviceAccount": service_account_error,
    "source.principal": None,
    "source.trustDomain": trust_domain_error,
    "request.auth.principal": None,
    "request.auth.audiences": None,
    "request.auth.presenter": None,
    "destination.ip": ip_block_error,
    "destination.port": port_error,
    "connection.sni": None,
}
_NAMED = ("request.headers", "request.auth.claims")
_EXPERIMENTAL = "experimental.envoy.filters."


class Condition(Ruled):
    """An attribute of the request, such as request.headers[x-token], and the values it may or may not have."""

    key: Text
    values: tuple[Text, ...] = ()
    not_values: tuple[Text, ...] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        if not (self.values or self.not_values):
            yield (), f"says nothing of {self.key}; give values or notValues"
        if (reason := self._key_error()) is not None:
            yield ("key",), reason
        elif (error := _VALUES.get(self.key)) is not None:
            for name, values in (("values", self.values), ("notValues", self.not_values)):
                for index, value in enumerate(values):
                    if (reason := error(value)) is not None:
                        yield (name, index), reason

    def _key_error(self) -> str | None:
        if self.key in _VALUES:
            return None
        if self.key.startswith(_EXPERIMENTAL):
            return f"{self.key!r} is about metadata of Envoy's filters, which meshproxy does not have"
        name, bracket, rest = self.key.partition("[")
        if name in _NAMED and bracket and len(rest) > 1 and rest.endswith("]"):
            return limited_header_error(rest[:-1]) if name == "request.headers" else None
        known = [*_VALUES, *(f"{name}[...]" for name in _NAMED)]
        return f"{self.key!r} is not an attribute of a request; use one of {', '.join(known)}"


class From(Model):
    """One of the sources that a rule takes."""

    source: Source


class To(Model):
    """One of the operations that a rule takes."""

    operation: Operation


class Rule(Model):
    """Requests from any of `from`, to any of `to`, that meet all of `when`. An empty rule takes every request."""

    from_: Annotated[tuple[From, ...] | None, Field(min_length=1, max_length=512)] = None
    to: Annotated[tuple[To, ...] | None, Field(min_length=1)] = None
    when: tuple[Condition, ...] = ()


class AuthorizationProvider(Model):
    """Who decides where the action is CUSTOM: an extension provider of the MeshConfig."""

    name: str | None = None


_UNKNOWN_TO_OTHERS = (
    *("principals", "not_principals", "request_principals", "not_request_principals", "namespaces", "not_namespaces"),
    *("service_accounts", "not_service_accounts", "trust_domains", "not_trust_domains"),
)
_UNKNOWN_KEYS = frozenset(("source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal"))
_IN_VAIN = "cannot be asked with CUSTOM, which is decided before anybody knows; the provider can, or another policy"


def _asked_in_vain(rules: tuple[Rule, ...]) -> Iterator[Wrong]:
    """What rules of CUSTOM ask of identities, which Istio refuses."""
    for n, rule in enumerate(rules):
        for m, one in enumerate(rule.from_ or ()):
            for name in _UNKNOWN_TO_OTHERS:
                if getattr(one.source, name):
                    yield ("rules", n, "from", m, "source", camel_case(name)), _IN_VAIN
        for m, condition in enumerate(rule.when):
            if condition.key in _UNKNOWN_KEYS or condition.key.startswith("request.auth."):
                yield ("rules", n, "when", m, "key"), f"{condition.key!r} {_IN_VAIN}"


class AuthorizationPolicy(Ruled):
    """Which requests are allowed or denied. ALLOW, the default, without rules allows none."""

    selector: WorkloadLabels | None = None
    target_ref: TargetReference | None = None
    target_refs: TargetReferences = ()
    rules: Annotated[tuple[Rule, ...], Field(max_length=512)] = ()
    action: Action | None = None
    provider: AuthorizationProvider | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        yield from _one_target(self)
        if self.action == "CUSTOM":
            yield from _asked_in_vain(self.rules)
            if not self.rules:
                yield (), "CUSTOM without rules is about no request; give a rule, an empty one ({}) for every request"
            if self.provider is None or not self.provider.name:
                yield ("provider",), "CUSTOM needs the name of an extension provider of the MeshConfig"
        elif self.provider is not None:
            yield ("provider",), f"is asked only by action: CUSTOM, not by {self.action or 'ALLOW'}; remove it"
        if self.action == "DENY" and not self.rules:
            yield (), "DENY without rules denies nothing; give a rule, an empty one ({}) to deny every request"


def _one_target(policy: AuthorizationPolicy | RequestAuthentication) -> Iterator[Wrong]:
    if sum(map(bool, (policy.selector is not None, policy.target_ref is not None, policy.target_refs))) > 1:
        yield (), "give one of selector, targetRef and targetRefs"


class MutualTLS(Model):
    """Whether callers have to present a certificate of the mesh. UNSET, or none, inherits."""

    mode: MutualTLSMode | None = None


def workload_port_error(port: str) -> str | None:
    """Why the text is not the number of a port that a workload can listen on."""
    if port.isascii() and port.isdigit() and 0 < int(port) <= 65535:
        return None
    return f"{port!r} is not a workload's port; write its number, from 1 to 65535"


class PeerAuthentication(Ruled):
    """Which connections a workload takes: plain, mutual TLS, or both; by port where they differ.

    The ports are the workload's own, not those of the services that lead to it.
    """

    selector: WorkloadLabels | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: dict[Annotated[str, checked(workload_port_error)], MutualTLS] = Field(default_factory=dict)

    def broken_rules(self) -> Iterator[Wrong]:
        if self.port_level_mtls and not (self.selector and self.selector.match_labels):
            yield (
                ("portLevelMtls",),
                "is for the workloads that a selector names; give selector.matchLabels, or only mtls for all",
            )
        elif "port_level_mtls" in self.model_fields_set and not self.port_level_mtls:
            yield ("portLevelMtls",), "names no port; name one, or remove it"


HeaderName = Annotated[str, checked(limited_header_error), AfterValidator(str.lower)]


class JWTHeader(Model):
    """A header that brings a token, after a prefix such as `Bearer `."""

    name: HeaderName
    prefix: str | None = None


class ClaimToHeader(Model):
    """A claim of the token that is copied into a request header. `a.b` is the claim `b` inside of `a`."""

    header: HeaderName
    claim: Text


def jwks_error(text: str) -> str | None:
    """Why the text is not a JSON Web Key Set (RFC 7517, section 5)."""
    try:
        keys = json.loads(text)["keys"]
        if isinstance(keys, list) and keys and all(isinstance(key, dict) and "kty" in key for key in keys):
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return 'is not a set of JSON Web Keys; write it as {"keys": [...]}, each with its kty'


def web_url_error(url: str) -> str | None:
    """Why the text is not the URL of something on the web."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return None
    except ValueError:
        pass
    return f"{url!r} is not the URL of a key set; write it as https://issuer.example.com/keys"


class JWTRule(Ruled):
    """The tokens of one issuer: where they stand in a request, and which keys sign them.

    Without `jwks` and `jwksUri`, the keys are where the issuer's OpenID configuration says.
    """

    issuer: Text | None = None
    audiences: tuple[Text, ...] = ()
    jwks_uri: Annotated[str, Field(min_length=1, max_length=2048), checked(web_url_error)] | None = Field(
        None, validation_alias=AliasChoices("jwksUri", "jwks_uri")
    )
    jwks: Annotated[str, checked(jwks_error)] | None = None
    from_headers: tuple[JWTHeader, ...] = ()
    from_params: tuple[Text, ...] = ()
    from_cookies: tuple[Text, ...] = ()
    output_payload_to_header: HeaderName | None = None
    forward_original_token: Bool = False
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    timeout: PositiveDuration | None = None
    space_delimited_claims: Annotated[tuple[Text, ...], Field(max_length=64)] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        if self.jwks is not None and self.jwks_uri is not None:
            yield (), "give one of jwks and jwksUri, not both"
        if self.jwks is None and self.jwks_uri is None and (self.issuer is None or web_url_error(self.issuer)):
            yield (
                (),
                "says not where its keys are; give jwks, jwksUri, or an issuer that is the URL of OpenID pages",
            )


class RequestAuthentication(Ruled):
    """Which tokens (JWTs) are valid. A request without one passes; an AuthorizationPolicy may ask for it."""

    selector: WorkloadLabels | None = None
    target_ref: TargetReference | None = None
    target_refs: TargetReferences = ()
    jwt_rules: Annotated[tuple[JWTRule, ...], Field(max_length=4096)] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        yield from _one_target(self)
