"""The secrets of a running proxy: what a snapshot's secrets stand for just now, and who is to be told of a change.

Rules:

1. At the start all that can be read must be good. Later, what is new and bad changes nothing: the old material stays
   in use, and it is logged what is wrong.
2. Files are looked at again and again rather than watched: that sees every way of replacing one, the link that
   Kubernetes turns to another directory among them. A certificate and a key that are written one after the other do not
   fit each other in between, which the next look mends.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeAlias

import trio

from ...identity import material
from ...identity.credentials import Credentials
from ...identity.errors import Unusable
from ...identity.material import Authorities, KeyPair
from ...snapshot import (
    WORKLOAD_CERTIFICATE,
    WORKLOAD_ROOTS,
    CommonTlsContext,
    Secret,
    TlsCertificate,
    TrustedCa,
    WorkloadCertificate,
)

_log = logging.getLogger(__name__)

_LOOK_S = 2.0

Material: TypeAlias = KeyPair | Authorities
Signature: TypeAlias = tuple[tuple[int, int, int] | None, ...]


class MissingSecret(Exception):
    """What a secret stands for is not there yet."""


class RunningSecret:
    """One secret. `material` is None while there is nothing; `trouble` is what is wrong with what came last."""

    __slots__ = ("_signature", "config", "listeners", "material", "trouble", "updated")

    def __init__(self, config: Secret) -> None:
        self.config = config
        self.material: Material | None = None
        self.trouble: str | None = None
        self.updated: datetime | None = None
        self.listeners: list[Callable[[], None]] = []
        self._signature: Signature = ()

    def __repr__(self) -> str:
        return f"<RunningSecret {self.config.name}>"

    def read(self, now: datetime) -> None:
        """Read it for the first time. Raises `Unusable`."""
        source = self.config.source
        if isinstance(source, (TlsCertificate, TrustedCa)):
            self._signature = _signature(source)
            try:
                self.set(_read(source, now), now)
            except Unusable as error:
                raise Unusable(f"{error} ({self._written()})") from None

    def look(self, now: datetime) -> bool:
        """Read it again if its files have changed; whether it is something else now."""
        source = self.config.source
        if not isinstance(source, (TlsCertificate, TrustedCa)):
            return False
        signature = _signature(source)
        if signature == self._signature:
            return False
        self._signature = signature
        try:
            self.set(_read(source, now), now)
        except Unusable as error:
            self.trouble = str(error)
            _log.warning("%s (%s); what was read before stays in use", error, self._written())
            return False
        _log.info("secret %r has been read again", self.config.name)
        return True

    def set(self, new: Material, now: datetime) -> None:
        """Be this from now on; whoever uses it is to be told."""
        self.material, self.trouble, self.updated = new, None, now
        if isinstance(new, KeyPair) and (problem := material.expiry_problem(new, now)):
            _log.warning("secret %r: %s (%s)", self.config.name, problem, self._written())

    def subscribe(self, changed: Callable[[], None]) -> None:
        self.listeners.append(changed)

    def _written(self) -> str:
        return str(self.config.origin or f"secret {self.config.name!r}")


class Secrets:
    """All secrets of a snapshot, by name."""

    def __init__(self, secrets: Iterable[Secret] = (), now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Raises `Unusable`: what one of them stands for cannot be used. The text says which, where and why."""
        self.clients: dict[CommonTlsContext, Callable[[], ssl.SSLContext]] = {}
        """What is made of them for connections to endpoints, which many clusters have in common."""
        self._now = now
        self._secrets = {secret.name: RunningSecret(secret) for secret in secrets}
        for secret in self:
            secret.read(now())

    def __iter__(self) -> Iterator[RunningSecret]:
        return iter(self._secrets.values())

    def key_pair(self, name: str) -> KeyPair:
        """A certificate and its key. Raises `MissingSecret`."""
        found = self._material(name)
        if not isinstance(found, KeyPair):
            raise MissingSecret(f"secret {name!r} is no certificate")
        return found

    def authorities(self, name: str) -> Authorities:
        """Whom to believe. Raises `MissingSecret`."""
        found = self._material(name)
        if not isinstance(found, Authorities):
            raise MissingSecret(f"secret {name!r} has no authorities")
        return found

    def subscribe(self, names: Iterable[str], changed: Callable[[], None]) -> None:
        """Call `changed` whenever one of these has other material."""
        for name in names:
            if name in self._secrets:
                self._secrets[name].subscribe(changed)

    def set_identity(self, credentials: Credentials) -> None:
        """The workload's own certificate and roots, new ones included, as far as the snapshot has secrets for them."""
        issued = credentials.issued
        own = KeyPair(issued.chain, credentials.key)
        roots = Authorities(issued.roots, issued.crls)
        changed = [one for one in self if not isinstance(one.config.source, _READABLE)]
        for secret in changed:
            secret.set(own if isinstance(secret.config.source, WorkloadCertificate) else roots, self._now())
        _tell(changed)

    async def watch(self) -> None:
        """Look for changed files, for ever."""
        if any(material.paths(one.config.source) for one in self if isinstance(one.config.source, _READABLE)):
            while True:
                await trio.sleep(_LOOK_S)
                self.look()

    def look(self) -> None:
        """Read again what has changed, and tell who uses it."""
        _tell([secret for secret in self if secret.look(self._now())])

    def _material(self, name: str) -> Material:
        secret = self._secrets.get(name)
        found = None if secret is None else secret.material
        if found is None:
            hint = "; run with --ca" if name in (WORKLOAD_CERTIFICATE, WORKLOAD_ROOTS) else ""
            raise MissingSecret(f"there is no secret {name!r}{hint}")
        return found


_READABLE = (TlsCertificate, TrustedCa)


def _tell(changed: Iterable[RunningSecret]) -> None:
    """Tell everybody once who uses one of these."""
    for listener in dict.fromkeys(listener for secret in changed for listener in secret.listeners):
        listener()


def _read(source: TlsCertificate | TrustedCa, now: datetime) -> Material:
    if isinstance(source, TlsCertificate):
        return material.read_key_pair(source)
    return material.read_authorities(source, now)


def _signature(source: TlsCertificate | TrustedCa) -> Signature:
    """What changes when one of the files does, or another takes its place."""
    return tuple(map(_file_signature, material.paths(source)))


def _file_signature(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
