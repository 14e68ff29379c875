"""Backends that speak TLS: what each shows, and asks of its clients. Made once a run."""

from __future__ import annotations

import atexit
import ssl
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ..certificates import DAY, NOW, Ca, Pair
from ..proxy.secure import server_context

SERVER = "spiffe://cluster.local/ns/default/sa/a"
WORKLOAD = "spiffe://cluster.local/ns/default/sa/me"


class Material:
    """Authorities, certificates and the folder where they are."""

    def __init__(self) -> None:
        self.ca, self.other = Ca(), Ca("another root")
        folder = tempfile.TemporaryDirectory()
        atexit.register(folder.cleanup)
        self.folder = Path(folder.name)
        self.client = self.ca.issue(WORKLOAD)
        names = ("example.com", "*.wild.test", "127.0.0.1", SERVER)
        self.shown: dict[str, Pair] = {
            "secure": self.ca.issue(*names),
            "strange": self.other.issue(*names),
            "expired": self.ca.issue(*names, expires=NOW - DAY),
            "revoked": self.ca.issue(*names),
        }
        for name, pair in {"client": self.client, "stranger": self.other.issue(WORKLOAD)}.items():
            pair.write(self.folder, name)
        (self.folder / "ca.pem").write_text(self.ca.pem)
        (self.folder / "crl.pem").write_text(self.ca.revoke(self.shown["revoked"]))

    def context(self, backend: str) -> ssl.SSLContext | None:
        """What secures the connections of a backend; None where nothing does."""
        if backend in ("mutual", "mutual12"):
            context = server_context(self.shown["secure"], clients=self.ca)
            if backend == "mutual12":
                context.maximum_version = ssl.TLSVersion.TLSv1_2
            return context
        return server_context(self.shown[backend]) if backend in self.shown else None

    def settings(self, *more: str, ca: str = "ca.pem") -> str:
        """The `tls` of a DestinationRule that believes our authority, in mode SIMPLE."""
        return ", ".join(("mode: SIMPLE", f"caCertificates: {self.folder}/{ca}", *more))

    def mutual(self, *more: str, shown: str = "client", verified: bool = True) -> str:
        """The same that shows a certificate."""
        files = [f"clientCertificate: {self.folder}/{shown}.crt", f"privateKey: {self.folder}/{shown}.key"]
        if verified:
            files.append(f"caCertificates: {self.folder}/ca.pem")
        return ", ".join(("mode: MUTUAL", *files, *more))


@cache
def material() -> Material:
    """Those of this run."""
    return Material()


def contexts(backends: tuple[str, ...]) -> Mapping[str, ssl.SSLContext | None]:
    """What secures each backend."""
    return {name: material().context(name) for name in backends}
