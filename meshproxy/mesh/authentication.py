"""RequestAuthentications as Envoy's JWT filter: whose tokens a proxy takes, and what it makes of them.

Source: Istio's `convertToEnvoyJwtConfig`. The rules of all policies that hold are taken together, by issuer.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..resources import JWTRule, RequestAuthentication, Resource
from ..snapshot import (
    ClaimToHeader,
    Jwks,
    JwtAuthentication,
    JwtHeader,
    JwtProvider,
    LocalJwks,
    Origin,
    RemoteJwks,
)
from .mesh import Mesh
from .policy_targets import Target

OPENID_CONFIGURATION = "/.well-known/openid-configuration"
"""Where an issuer tells of itself (OpenID Connect Discovery 1.0, section 4)."""

_TIMEOUT_S = 5.0
_SPACE_DELIMITED = ("permission", "scope")  # Istio adds these to whatever a rule names


def jwt_authentication(mesh: Mesh, target: Target) -> JwtAuthentication | None:
    """What a proxy asks of tokens; None if it has no use for any."""
    rules = sorted(_rules(mesh, target), key=lambda one: one[0].issuer or "")
    if not rules:
        return None
    return JwtAuthentication(tuple(_provider(f"origins-{n}", rule, origin) for n, (rule, origin) in enumerate(rules)))


def _rules(mesh: Mesh, target: Target) -> Iterator[tuple[JWTRule, Origin]]:
    for policy in target.policies(mesh.of(RequestAuthentication)):
        for place, rule in enumerate(policy.spec.jwt_rules):
            yield rule, _origin(policy, place)


def _origin(policy: Resource[RequestAuthentication], place: int) -> Origin:
    position = policy.position("spec", "jwtRules", place)
    return Origin(position.file, position.line, policy.id, f"spec.jwtRules[{place}]")


def _provider(name: str, rule: JWTRule, origin: Origin) -> JwtProvider:
    anywhere = not (rule.from_headers or rule.from_params or rule.from_cookies)
    headers = tuple(JwtHeader(header.name, header.prefix or "") for header in rule.from_headers)
    return JwtProvider(
        name,
        rule.issuer or "",
        _jwks(rule),
        rule.audiences,
        from_headers=(JwtHeader("authorization", "Bearer "),) if anywhere else headers,
        from_params=("access_token",) if anywhere else rule.from_params,
        from_cookies=rule.from_cookies,
        forward=rule.forward_original_token,
        forward_payload_header=rule.output_payload_to_header,
        claim_to_headers=tuple(ClaimToHeader(one.header, one.claim) for one in rule.output_claim_to_headers),
        space_delimited_claims=tuple(sorted({*rule.space_delimited_claims, *_SPACE_DELIMITED})),
        origin=origin,
    )


def _jwks(rule: JWTRule) -> Jwks:
    if rule.jwks is not None:
        return LocalJwks(rule.jwks)
    timeout_s = _TIMEOUT_S if rule.timeout is None else rule.timeout
    if rule.jwks_uri is not None:
        return RemoteJwks(rule.jwks_uri, timeout_s)
    issuer = (rule.issuer or "").removesuffix("/")
    return RemoteJwks(issuer + OPENID_CONFIGURATION, timeout_s, discovered=True)
