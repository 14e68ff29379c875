"""A running proxy's own identity: got before it serves, and kept current for as long as it does.

Whoever uses the credentials is told of new ones, and of roots and revocation lists that have changed; connections that
there are go on with what they began with.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import trio

from .authority import Authority
from .client import Clock, Obtain, checked, keep_current
from .credentials import Credentials, Issued, read_credentials, write_credentials
from .errors import IdentityError
from .spiffe import SpiffeId

_log = logging.getLogger(__name__)

Trusted: TypeAlias = Callable[[], Awaitable[Issued]]
"""What a CA would have others verified by just now; its chain does not matter. Raises `IdentityError`."""

_LOOK_S = 5.0


class WorkloadIdentity:
    """Who a proxy is: `id`, by certificates that `ca` issues.

    `current` is what it proves that with, None until there is something. `trouble` says why the last attempt to get a
    certificate failed.
    """

    def __init__(
        self,
        ca: Obtain,
        id: SpiffeId,
        *,
        clock: Clock,
        chance: Callable[[], float],
        trusted: Trusted | None = None,
        kept: Path | None = None,
    ) -> None:
        """With `trusted`, what the CA trusts and has revoked is looked at every few seconds.

        `kept` is a directory where the credentials are kept, so that another process goes on with them: a join token
        is used but once.
        """
        self.id = id
        self.current: Credentials | None = None
        self.trouble: str | None = None
        self._ca = ca
        self._clock = clock
        self._chance = chance
        self._trusted = trusted
        self._kept = kept

    def __repr__(self) -> str:
        return f"<WorkloadIdentity {self.id}>"

    def obstacle(self) -> str | None:
        """Why nothing can be proven just now; None when something can."""
        if self.current is None:
            return f"no identity yet: {self.trouble or f'waiting for the certificate of {self.id}'}"
        end = self.current.issued.leaf.not_valid_after_utc
        if self._clock() < end:
            return None
        why = self.trouble or "a new one is asked for"
        return f"the certificate of {self.id} has expired on {end:%Y-%m-%d %H:%M:%S} UTC: {why}"

    async def run(self, changed: Callable[[Credentials], None]) -> None:
        """Tell `changed` of the credentials, as soon as there are some and whenever they change; for ever.

        Raises:
            IdentityError: there are none, and the CA refuses to give any. It comes in an exception group.
        """
        async with trio.open_nursery() as nursery:
            if self._kept is not None:
                self.current = await trio.to_thread.run_sync(self._read_kept, self._kept, self._clock())
                if self.current is not None:
                    changed(self.current)
            if self._trusted is not None:
                nursery.start_soon(self._look, self._trusted, changed)
            renewed = partial(self._renewed, changed, nursery)
            await keep_current(self._ask, self.id, self.current, renewed, clock=self._clock, chance=self._chance)

    async def _ask(self, request: bytes, current: Credentials | None) -> Issued:
        try:
            issued = await self._ca(request, current)
        except IdentityError as error:
            self.trouble = str(error)
            raise
        self.trouble = None
        return issued

    def _renewed(self, changed: Callable[[Credentials], None], nursery: trio.Nursery, new: Credentials) -> None:
        self.current = new
        if self._kept is not None:
            nursery.start_soon(self._keep, self._kept, new)
        changed(new)

    async def _look(self, trusted: Trusted, changed: Callable[[Credentials], None]) -> None:
        """Find out what is trusted and revoked, again and again."""
        while True:
            await trio.sleep(_LOOK_S)
            try:
                now = await trusted()
            except IdentityError as error:
                _log.warning("cannot find out what the CA trusts: %s", error)
                continue
            current = self.current
            if current is not None and (now.roots, now.crls) != (current.issued.roots, current.issued.crls):
                self.current = replace(current, issued=replace(current.issued, roots=now.roots, crls=now.crls))
                changed(self.current)

    def _read_kept(self, directory: Path, now: datetime) -> Credentials | None:
        """What an earlier process has kept, if it is of any use."""
        if not directory.is_dir():
            return None
        try:
            kept = read_credentials(directory)
            return checked(kept.issued, kept.key, self.id, now)
        except IdentityError as error:
            _log.warning("what is kept in %s is of no use: %s", directory, error)
            return None

    async def _keep(self, directory: Path, credentials: Credentials) -> None:
        try:
            await trio.to_thread.run_sync(write_credentials, directory, credentials)
        except IdentityError as error:
            _log.warning("a restart will need another join token: %s", error)


def trusted_by(authority: Authority) -> Trusted:
    """What a CA in a directory of this machine trusts."""

    async def trusted() -> Issued:
        return await trio.to_thread.run_sync(authority.trusted)

    return trusted
