"""Join tokens: what admits a workload's first signing request. Short-lived, for one identity, used once.

A token is 256 random bits, so that its SHA-256 tells nothing of it: the folder holds a file for each token, named by
the hash. To use a token is to remove its file, which the file system lets only one of several do.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import datetime, timedelta
from pathlib import Path

from . import files, spiffe
from .errors import Refused, Unusable
from .spiffe import SpiffeId

LIFETIME = timedelta(hours=1)

_UNKNOWN = "the join token is not valid: it was used before, has expired or was never made; make one with `ca token`"


class JoinTokens:
    """The tokens whose hashes are in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def make(self, identity: SpiffeId, now: datetime, lifetime: timedelta = LIFETIME) -> str:
        """A new token; what has expired is forgotten. Raises `Unusable`."""
        files.make_directory(self._directory)
        self._forget_expired(now)
        token = secrets.token_urlsafe(32)
        record = {"identity": str(identity), "expires": (now + lifetime).isoformat()}
        files.write(self._file(token), json.dumps(record).encode() + b"\n", files.SECRET)
        return token

    def identity(self, token: str, now: datetime) -> SpiffeId:
        """Whom a token admits; it remains unused. Raises `Refused`."""
        try:
            identity, expires = _read(self._file(token))
        except Unusable:
            raise Refused(401, _UNKNOWN) from None
        if now >= expires:
            raise Refused(401, _UNKNOWN)
        return identity

    def use(self, token: str) -> None:
        """Use a token up. Raises `Refused` when somebody else was faster."""
        try:
            self._file(token).unlink()
        except OSError:
            raise Refused(401, _UNKNOWN) from None

    def _file(self, token: str) -> Path:
        return self._directory / hashlib.sha256(token.encode()).hexdigest()

    def _forget_expired(self, now: datetime) -> None:
        for file in self._directory.iterdir():
            try:
                _, expires = _read(file)
            except Unusable:
                continue  # being written or used just now, or somebody's note
            if now >= expires:
                file.unlink(missing_ok=True)


def _read(file: Path) -> tuple[SpiffeId, datetime]:
    record = files.read(file)
    try:
        fields = json.loads(record)
        return spiffe.parse(fields["identity"]), datetime.fromisoformat(fields["expires"])
    except (ValueError, TypeError, KeyError) as error:
        raise Unusable(f"{file} is no join token") from error
