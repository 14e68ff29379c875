"""A whole snapshot, and how it is shown."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args

from .access import AccessRule, Jwks
from .clusters import Cluster, Maglev, Probe, RingHash
from .listeners import Listener
from .routes import Action, HashPolicy
from .tls import DataSource, Secret, SecretSource, SystemRoots
from .values import Address, ValueMatcher


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one proxy runs. What names a secret, a cluster or a listener, means the one among these."""

    listeners: tuple[Listener, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    secrets: tuple[Secret, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The snapshot as JSON-ready data, for `/config_dump`; each union's member is named by `"@type"`."""
        dumped = _dump(self)
        assert isinstance(dumped, dict)
        return dumped


REDACTED = "[redacted]"
"""What Envoy's dumps, and ours, show of a secret."""


def _dump(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"@type": type(value).__name__} if isinstance(value, _UNION_MEMBERS) else {}
        return kind | {
            f.name: REDACTED if f.metadata.get("secret") else _dump(getattr(value, f.name))
            for f in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [_dump(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value


_UNION_MEMBERS = tuple(
    member
    for union in (
        Address,
        ValueMatcher,
        HashPolicy,
        Probe,
        Action,
        RingHash | Maglev,
        AccessRule,
        Jwks,
        DataSource | SystemRoots,
        SecretSource,
    )
    for member in get_args(union)
)
