"""Kubernetes Secrets as the key material that Gateways and DestinationRules name.

Source: Istio's `ParseResourceName` (pilot/pkg/model/credentials/resource.go) and `ExtractCertInfo`, `GetCaCert`
(pilot/pkg/credentials/kube/secrets.go). A proxy is given the Secrets of its own namespace, and no others'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .. import resources as api
from ..resources import AUTHORITY_KEYS, CERTIFICATE_KEYS, Resource
from ..snapshot import (
    WORKLOAD_CERTIFICATE,
    WORKLOAD_ROOTS,
    InlineSource,
    Origin,
    Secret,
    SecretSource,
    TlsCertificate,
    TrustedCa,
    WorkloadCertificate,
    WorkloadRoots,
)
from .advice import advice, listed

CA_SUFFIX = "-cacert"
_KUBERNETES = "kubernetes://"
_SCHEMES = (_KUBERNETES, "kubernetes-gateway://", "sds://")
_BUILTIN = "builtin://"
_CONFIG_MAP = "configmap://"


class NoCredential(LookupError):
    """There is no such key material; the message says what is missing, and what would be right."""


@dataclass(frozen=True, eq=False)
class Credentials:
    """The Secrets that a proxy in `namespace` may be given."""

    secrets: Mapping[str, Resource[api.Secret]]
    namespace: str

    @staticmethod
    def of(secrets: Iterable[Resource[api.Secret]], namespace: str) -> Credentials:
        return Credentials({f"{one.namespace}/{one.name}": one for one in secrets}, namespace)

    def certificate(self, credential: str) -> Secret:
        """The certificate and key of a `credentialName`. Raises `NoCredential`."""
        if credential.startswith(_BUILTIN):
            return Secret(WORKLOAD_CERTIFICATE, WorkloadCertificate())
        found = self._secret(credential)
        texts = found.spec.texts()
        for names in CERTIFICATE_KEYS:
            if all(name in texts for name in names):
                chain, key = (_inline(found, name, texts) for name in names)
                return _made(credential, TlsCertificate(chain, key), found)
        raise NoCredential(f"{found.id} has no certificate with its key: give tls.crt and tls.key{_instead(texts)}")

    def authorities(self, credential: str) -> Secret:
        """Whom to verify peers by, from the Secret of that name and `-cacert`, else from that itself.

        `credential` may be that of authorities itself, too. Raises `NoCredential`.
        """
        if credential.startswith(_BUILTIN):
            return Secret(WORKLOAD_ROOTS, WorkloadRoots())
        stem = credential.removesuffix(CA_SUFFIX)
        try:
            found = self._secret(f"{stem}{CA_SUFFIX}")
        except NoCredential:
            found = self._secret(stem)
        texts = found.spec.texts()
        for authority, revoked in AUTHORITY_KEYS:
            if authority in texts:
                crl = _inline(found, revoked, texts) if revoked in texts else None
                return _made(f"{stem}{CA_SUFFIX}", TrustedCa(_inline(found, authority, texts), crl), found)
        raise NoCredential(
            f"{found.id} has no authorities to verify peers by: give ca.crt, or a Secret "
            f"{stem.rpartition('/')[2]}{CA_SUFFIX} that has it{_instead(texts)}"
        )

    def _secret(self, credential: str) -> Resource[api.Secret]:
        if credential.startswith(_CONFIG_MAP):
            raise NoCredential(f"{credential!r} is a ConfigMap; key material is taken from Secrets only")
        name = next((credential[len(one) :] for one in _SCHEMES if credential.startswith(one)), credential)
        namespace, _, short = name.rpartition("/")
        if namespace and namespace != self.namespace:
            raise NoCredential(
                f"the Secret {name!r} is of another namespace than the proxy, which is in {self.namespace!r}"
            )
        full = f"{self.namespace}/{short}"
        if full not in self.secrets:
            elsewhere = [other for other in self.secrets if other.endswith(f"/{short}")]
            why = f"; Secrets are looked for where the proxy is, in {self.namespace!r}" if elsewhere else ""
            own = [other for other in self.secrets if other.startswith(f"{self.namespace}/")]
            hint = f"there is {listed(elsewhere)}" if elsewhere else advice(full, own, "there are none")
            raise NoCredential(f"no Secret {full!r}; {hint}{why}")
        return self.secrets[full]


def _inline(secret: Resource[api.Secret], name: str, texts: Mapping[str, str]) -> InlineSource:
    return InlineSource(f"{name} of {secret.id}", texts[name])


def _made(credential: str, source: SecretSource, found: Resource[api.Secret]) -> Secret:
    named = credential if "://" in credential else f"{_KUBERNETES}{credential}"
    position = found.position("metadata", "name")
    return Secret(named, source, Origin(position.file, position.line, found.id))


def _instead(texts: Mapping[str, str]) -> str:
    return f"; it has {listed(sorted(texts))}" if texts else "; it is empty"
