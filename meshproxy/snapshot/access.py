"""Who may do what: tokens (Envoy's `jwt_authn`), rules about requests (its `config.rbac.v3`), and others that decide
(its `ext_authz`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .matching import Claim
from .routes import HeaderMutations
from .values import Origin, ValueMatcher


@dataclass(frozen=True, slots=True)
class LocalJwks:
    """Keys that are given: a JSON Web Key Set (RFC 7517), which may hold secret ones."""

    inline: str = field(repr=False, metadata={"secret": True})


@dataclass(frozen=True, slots=True)
class RemoteJwks:
    """Keys that are fetched from `uri`. With `discovered`, that is OpenID configuration, whose `jwks_uri` has them."""

    uri: str
    timeout_s: float = 5.0
    discovered: bool = False


Jwks = LocalJwks | RemoteJwks


@dataclass(frozen=True, slots=True)
class JwtHeader:
    """A header that brings a token, behind `value_prefix`."""

    name: str
    value_prefix: str = ""


@dataclass(frozen=True, slots=True)
class ClaimToHeader:
    """A claim that is copied into a request header; dots in `claim` lead into claims."""

    header: str
    claim: str


@dataclass(frozen=True, slots=True)
class JwtProvider:
    """Whose tokens are valid, by which keys, and where they stand in a request (Envoy's `JwtProvider`).

    An empty `issuer` is any. Without `audiences` any will do. A claim of `space_delimited_claims` that is a text is
    taken for the list of its words. Unless told to `forward` it, the token does not go on upstream.
    """

    name: str
    issuer: str
    jwks: Jwks
    audiences: tuple[str, ...] = ()
    from_headers: tuple[JwtHeader, ...] = (JwtHeader("authorization", "Bearer "),)
    from_params: tuple[str, ...] = ("access_token",)
    from_cookies: tuple[str, ...] = ()
    forward: bool = False
    forward_payload_header: str | None = None
    claim_to_headers: tuple[ClaimToHeader, ...] = ()
    space_delimited_claims: tuple[str, ...] = ("permission", "scope")
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class JwtAuthentication:
    """A request needs no token. One that it has must be valid for one of the providers that look where it stands.

    What it is worth to the filters behind this one are the claims of the first provider that finds it valid. Preflights
    of CORS pass (`bypass_cors_preflight`): no browser gives them a token.
    """

    providers: tuple[JwtProvider, ...]


@dataclass(frozen=True, slots=True)
class AnyRequest:
    """Every request."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of `rules` hold."""

    rules: tuple[AccessRule, ...]


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of `rules` holds."""

    rules: tuple[AccessRule, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`rule` does not hold."""

    rule: AccessRule


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """A header, `:method` or `:authority` has a value like this; `match=None` asks only that it is present."""

    name: str
    match: ValueMatcher | None = None
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class UrlPath:
    """The path, without its query, is like this."""

    match: ValueMatcher


@dataclass(frozen=True, slots=True)
class UriTemplate:
    """The path, without its query, is of this form: `*` is one segment, `**`, at its end, any number of them."""

    template: str


@dataclass(frozen=True, slots=True)
class DestinationIp:
    """The address that the client connected to is in this range, such as `10.0.0.0/8`."""

    range: str


@dataclass(frozen=True, slots=True)
class DirectRemoteIp:
    """The address at the other end of the connection is in this range."""

    range: str


@dataclass(frozen=True, slots=True)
class RemoteIp:
    """The address of the client is in this range: as x-forwarded-for tells it, where that is believed."""

    range: str


@dataclass(frozen=True, slots=True)
class RequestedServerName:
    """The client asked for a server by such a name (SNI); without TLS it asked for the name ''."""

    match: ValueMatcher


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The client's certificate has been verified, and calls it such a name: a URI, such as a SPIFFE ID."""

    match: ValueMatcher


AccessRule = (
    AnyRequest
    | AllOf
    | OneOf
    | Not
    | RequestHeader
    | UrlPath
    | UriTemplate
    | DestinationIp
    | DirectRemoteIp
    | RemoteIp
    | RequestedServerName
    | Authenticated
    | Claim
)
"""Envoy's `Permission`, where it is about a request's aim, and its `Principal`, where it is about the origin."""


@dataclass(frozen=True, slots=True)
class RbacPolicy:
    """The requests for which one of `permissions` and one of `principals` holds."""

    name: str
    permissions: tuple[AccessRule, ...]
    principals: tuple[AccessRule, ...]
    origin: Origin | None = field(default=None, compare=False)


RbacAction = Literal["ALLOW", "DENY", "LOG"]


@dataclass(frozen=True, slots=True)
class Rbac:
    """ALLOW lets only the requests of its policies pass, DENY only all others; LOG tells of those, and denies none.

    Of several policies that a request meets, the first by name is told of.
    """

    action: RbacAction
    policies: tuple[RbacPolicy, ...]


@dataclass(frozen=True, slots=True)
class RbacFilter:
    """Role-based access control. `shadow_rules` only tell what they would do (dry run)."""

    rules: Rbac | None = None
    shadow_rules: Rbac | None = None


@dataclass(frozen=True, slots=True)
class BufferSettings:
    """Whoever decides sees a request's body. One of more than `max_request_bytes` is refused, or else its beginning is
    all that is seen."""

    max_request_bytes: int
    allow_partial_message: bool = False


_NO_CHANGES = HeaderMutations()


@dataclass(frozen=True, slots=True)
class ExtAuthz:
    """Another service decides about the requests that meet a policy of `rules` (Envoy's `ExtAuthz` by HTTP).

    `cluster` is asked by a request of the same method, host and path, behind `path_prefix`. It has the body as far as
    `with_request_body` says, the headers `authorization` and those that `allowed_headers` match, and what
    `check_headers` add.

    An answer 200 allows. Those of its headers that `allowed_upstream_headers` match are set in the request, and those
    that `allowed_client_headers_on_success` match are added to the response. Any other answer is the client's, with the
    headers that `allowed_client_headers` match, all of them if there are none. No answer in `timeout_s`, and 5xx, is an
    error: `status_on_error`, unless `failure_mode_allow` lets the request pass.

    The headers that are set play no part in routing, unless `clear_route_cache`. What meets `shadow_rules` is only
    counted (dry run). Names are matched in lower case.
    """

    name: str
    cluster: str
    rules: Rbac
    shadow_rules: Rbac | None = None
    timeout_s: float = 600.0
    path_prefix: str = ""
    failure_mode_allow: bool = False
    status_on_error: int = 403
    clear_route_cache: bool = False
    with_request_body: BufferSettings | None = None
    allowed_headers: tuple[ValueMatcher, ...] = ()
    check_headers: HeaderMutations = _NO_CHANGES
    allowed_upstream_headers: tuple[ValueMatcher, ...] = ()
    allowed_client_headers: tuple[ValueMatcher, ...] = ()
    allowed_client_headers_on_success: tuple[ValueMatcher, ...] = ()
    origin: Origin | None = field(default=None, compare=False)
