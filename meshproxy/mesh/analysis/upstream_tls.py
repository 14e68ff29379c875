"""TLS to upstreams: key material that a DestinationRule names and that is not there, and settings that prove little."""

from __future__ import annotations

from collections.abc import Iterator

from ... import snapshot
from ...resources import (
    ClientTLSSettings,
    DestinationRule,
    Note,
    Secret,
    format_path,
)
from ...resources.problems import Path, Problem
from ..credentials import Credentials, NoCredential
from ..destination_rules import policies_of, selector_of
from ..mesh import Mesh
from ..upstream_tls import key_material
from .scope import Scope


def missing_credentials(scope: Scope) -> Iterator[Problem]:
    """A Secret that a rule names, and that the proxies of the rule are not given, or that has not what it takes."""
    if scope.unreadable("Secret"):
        return
    for rule in scope.of(DestinationRule):
        namespace = scope.namespace if selector_of(rule) is None else rule.namespace
        credentials = Credentials.of(scope.mesh.of(Secret), namespace)
        for path, settings in tls_settings(rule.spec):
            if settings.credential_name and (reason := _reason(credentials, settings)) is not None:
                yield rule.problem((*path, "credentialName"), reason)


def _reason(credentials: Credentials, settings: ClientTLSSettings) -> str | None:
    assert settings.credential_name is not None
    try:
        if settings.mode == "MUTUAL":
            credentials.certificate(settings.credential_name)
        if not settings.insecure_skip_verify:
            credentials.authorities(settings.credential_name)
    except NoCredential as error:
        return str(error)
    return None


def secrets_of_rules(mesh: Mesh, namespace: str) -> tuple[snapshot.Secret, ...]:
    """The key material of every DestinationRule, whichever proxies it is for; `namespace` is the gateway's."""
    named: dict[str, snapshot.Secret] = {}
    for rule in mesh.of(DestinationRule):
        given = Credentials.of(mesh.of(Secret), namespace if selector_of(rule) is None else rule.namespace)
        for path, settings in tls_settings(rule.spec):
            position = rule.position(*path)
            origin = snapshot.Origin(position.file, position.line, rule.id, format_path(path))
            for secret in key_material(settings, given, origin):
                named.setdefault(secret.name, secret)
    return tuple(named.values())


def unverified_names(mesh: Mesh) -> Iterator[Note]:
    """Settings by which any certificate will do, or any of the authorities'."""
    for rule in mesh.of(DestinationRule):
        for path, settings in tls_settings(rule.spec):
            if settings.mode not in ("SIMPLE", "MUTUAL"):
                continue
            if settings.insecure_skip_verify:
                message = "nothing of the endpoints' certificates is verified: anybody on the way can be the endpoint"
                yield Note(rule.position(*path, "insecureSkipVerify"), f"{rule.id}: {message}")
            elif settings.sni and not settings.subject_alt_names:
                message = (
                    "with sni and without subjectAltNames, any certificate of the authorities will do, whoever it is "
                    f"for; add subjectAltNames: [{settings.sni}]"
                )
                yield Note(rule.position(*path, "sni"), f"{rule.id}: {message}")


def credentials_at_sidecars(mesh: Mesh) -> Iterator[Note]:
    """Secrets that are not given to sidecars, in rules for everybody."""
    for rule in mesh.of(DestinationRule):
        for path, settings in tls_settings(rule.spec):
            if settings.credential_name and selector_of(rule) is None:
                message = (
                    "credentialName is for gateways: sidecars are not given the Secret without a workloadSelector, and "
                    "what they send to the service themselves is answered with 503"
                )
                yield Note(rule.position(*path, "credentialName"), f"{rule.id}: {message}")


def tls_settings(rule: DestinationRule) -> Iterator[tuple[Path, ClientTLSSettings]]:
    """Every `tls` of a rule, and where it is written."""
    return (((*path, "tls"), policy.tls) for path, policy in policies_of(rule) if policy.tls is not None)
