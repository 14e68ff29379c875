"""Kubernetes' Secret: certificates with their keys, and authorities, as far as a Gateway or DestinationRule names them.

Source: the Kubernetes API reference, core/v1, and Istio's `ExtractCertInfo` and `ExtractRoot`
(pilot/pkg/credentials/kube/secrets.go). What is secret is in no repr and in no message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping

from pydantic import Field, SecretStr

from .model import Ruled, Wrong
from .types import Bool

CERTIFICATE_KEYS = (("cert", "key"), ("tls.crt", "tls.key"))
"""What a certificate and its private key are called, Istio's own names first."""
AUTHORITY_KEYS = (("cacert", "crl"), ("ca.crt", "ca.crl"))
"""What authorities are called, and what they have revoked."""


class Secret(Ruled):
    """Some texts, by name: in base64 in `data`, as they are in `string_data`, which goes before."""

    type: str = "Opaque"
    data: dict[str, SecretStr] = Field(default_factory=dict)
    string_data: dict[str, SecretStr] = Field(default_factory=dict)
    immutable: Bool | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        for name, value in self.data.items():
            try:
                base64.b64decode(value.get_secret_value().replace("\n", ""), validate=True).decode()
            except binascii.Error:
                yield ("data", name), "is not base64; encode it, or write it as it is into stringData"
            except UnicodeDecodeError:
                if name in _TEXTS:
                    yield ("data", name), "is no text, so that it is not in PEM"
        if self.type == "kubernetes.io/tls":
            for name in ("tls.crt", "tls.key"):
                if name not in self.data and name not in self.string_data:
                    yield ("data", name), "is required by type: kubernetes.io/tls"

    def texts(self) -> Mapping[str, str]:
        """The texts by name, those that are no text and those that are empty left out."""
        found = {}
        for name, value in self.data.items():
            try:
                found[name] = base64.b64decode(value.get_secret_value()).decode()
            except ValueError:
                continue
        found |= {name: value.get_secret_value() for name, value in self.string_data.items()}
        return {name: text for name, text in found.items() if text.strip()}


_TEXTS = frozenset(name for names in (*CERTIFICATE_KEYS, *AUTHORITY_KEYS) for name in names)
