"""The record of what a CA has issued: who has which certificate until when, a line of JSON each.

By it a serial number can be revoked, and a rotation knows when nobody needs the old authority any more. What has
expired is dropped whenever the file has doubled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from . import files
from .errors import Unusable

_SMALL = 64 * 1024


@dataclass(frozen=True, slots=True)
class Issuance:
    """One certificate; `issuer` is its issuer's serial number."""

    serial: int
    identity: str
    issuer: int
    not_after: datetime


class IssuanceRecord:
    """The record in `file`; whoever writes holds the lock of its directory."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._prune_at = _SMALL

    def add(self, certificate: x509.Certificate, identity: str, issuer: x509.Certificate, now: datetime) -> None:
        """Note one more. Raises `Unusable`."""
        entry = Issuance(certificate.serial_number, identity, issuer.serial_number, certificate.not_valid_after_utc)
        if self._size() > self._prune_at:
            kept = b"".join(_line(one) for one in self if one.not_after > now)
            files.write(self._file, kept, files.SECRET)
            self._prune_at = max(_SMALL, 2 * len(kept))
        files.append(self._file, _line(entry))

    def __iter__(self) -> Iterator[Issuance]:
        """Every certificate on record. Raises `Unusable`."""
        if not self._file.exists():
            return
        for number, line in enumerate(files.lines(self._file), 1):
            try:
                fields = json.loads(line)
                not_after = datetime.fromisoformat(fields["notAfter"])
                yield Issuance(int(fields["serial"], 16), fields["identity"], int(fields["issuer"], 16), not_after)
            except (ValueError, TypeError, KeyError) as error:
                raise Unusable(f"cannot use {self._file}: line {number} is no record of a certificate") from error

    def _size(self) -> int:
        try:
            return self._file.stat().st_size
        except OSError:
            return 0


def _line(entry: Issuance) -> bytes:
    fields = {
        "serial": f"{entry.serial:x}",
        "identity": entry.identity,
        "issuer": f"{entry.issuer:x}",
        "notAfter": entry.not_after.isoformat(),
    }
    return json.dumps(fields).encode() + b"\n"
