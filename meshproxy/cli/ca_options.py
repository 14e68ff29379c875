"""What a person can say of the CA that a serving command gets its identity from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RemoteAddress:
    """Where `meshproxy ca serve` is."""

    host: str
    port: int | None
    """None for the usual one."""


@dataclass(frozen=True)
class CaOptions:
    """What a person said of the CA. `location` is None where there is none."""

    location: Path | RemoteAddress | None
    join_token_file: Path | None
    ca_root: Path | None
    credentials: Path | None
    trust_domain: str | None
    trust_domain_aliases: tuple[str, ...]
    certificate_ttl_s: float
    passphrase_file: Path | None
