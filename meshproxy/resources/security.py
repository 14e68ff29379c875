"""AuthorizationPolicy, PeerAuthentication and RequestAuthentication: who callers are, and what they may do.

Source: Istio's `security/v1beta1` protos, and the validation in its CRDs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from .model import Model
from .targets import TargetReference, TargetReferences, WorkloadLabels
from .types import Bool, PositiveDuration, Text

Action = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
MutualTLSMode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]

ServiceAccounts = Annotated[tuple[Annotated[str, Field(max_length=320)], ...], Field(max_length=16)]


class Source(Model):
    """Where a request comes from; all that is given has to hold. `not...` takes the requests that do not match."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: ServiceAccounts = ()
    not_service_accounts: ServiceAccounts = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class Operation(Model):
    """What a request asks for; all that is given has to hold. Ports are written as text."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class Condition(Model):
    """An attribute of the request, such as request.headers[x-token], and the values it may or may not have."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class From(Model):
    """One of the sources that a rule takes."""

    source: Source | None = None


class To(Model):
    """One of the operations that a rule takes."""

    operation: Operation | None = None


class Rule(Model):
    """Requests from any of `from`, to any of `to`, that meet all of `when`. An empty rule takes every request."""

    from_: Annotated[tuple[From, ...], Field(max_length=512)] = ()
    to: tuple[To, ...] = ()
    when: tuple[Condition, ...] = ()


class AuthorizationProvider(Model):
    """Who decides where the action is CUSTOM: a provider of the mesh's configuration."""

    name: str | None = None


class AuthorizationPolicy(Model):
    """Which requests are allowed or denied. ALLOW, the default, without rules allows none."""

    selector: WorkloadLabels | None = None
    target_ref: TargetReference | None = None
    target_refs: TargetReferences = ()
    rules: Annotated[tuple[Rule, ...], Field(max_length=512)] = ()
    action: Action | None = None
    provider: AuthorizationProvider | None = None


class MutualTLS(Model):
    """Whether callers have to present a certificate of the mesh. UNSET inherits."""

    mode: MutualTLSMode | None = None


class PeerAuthentication(Model):
    """Which connections a workload takes: plain, mutual TLS, or both; by port where they differ."""

    selector: WorkloadLabels | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: dict[str, MutualTLS] = Field(default_factory=dict)


class JWTHeader(Model):
    """A header that brings a token, after a prefix such as `Bearer `."""

    name: Text
    prefix: str | None = None


class ClaimToHeader(Model):
    """A claim of the token that is copied into a request header."""

    header: Text
    claim: Text


class JWTRule(Model):
    """The tokens of one issuer: where they stand in a request, and which keys sign them."""

    issuer: Text | None = None
    audiences: tuple[Text, ...] = ()
    jwks_uri: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        None, validation_alias=AliasChoices("jwksUri", "jwks_uri")
    )
    jwks: str | None = None
    from_headers: tuple[JWTHeader, ...] = ()
    from_params: tuple[Text, ...] = ()
    from_cookies: tuple[Text, ...] = ()
    output_payload_to_header: str | None = None
    forward_original_token: Bool = False
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    timeout: PositiveDuration | None = None
    space_delimited_claims: Annotated[tuple[Text, ...], Field(max_length=64)] = ()


class RequestAuthentication(Model):
    """Which tokens (JWTs) are valid. A request without one passes; an AuthorizationPolicy may ask for it."""

    selector: WorkloadLabels | None = None
    target_ref: TargetReference | None = None
    target_refs: TargetReferences = ()
    jwt_rules: Annotated[tuple[JWTRule, ...], Field(max_length=4096)] = ()
