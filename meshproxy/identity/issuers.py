"""The keys of issuers, fetched and kept fresh: nobody's request decides how often an issuer is asked.

Keys are fetched again every five minutes, as Envoy does under Istio; when a fetch fails, those that are there stay,
and it is tried again sooner. A token that names a key nobody knows may be the first of a new key, and so has the keys
fetched at once, but not more than once in `UNKNOWN_KEY_PAUSE_S`: until then such tokens are refused by what is known.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from ..snapshot import Jwks, LocalJwks, RemoteJwks
from .jwt import read_json

if TYPE_CHECKING:
    from .jwks import KeySet

_log = logging.getLogger(__name__)

REFRESH_S = 300.0
UNKNOWN_KEY_PAUSE_S = 30.0
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 60.0
MAX_BYTES = 256 * 1024
"""The largest document that is read from an issuer."""

Get = Callable[[str, float], Awaitable[bytes]]
"""Gets what a URL stands for, within so many seconds. Raises `OSError` or `ValueError`."""


class Keys:
    """The keys of one source. `current` is None as long as none have come."""

    current: KeySet | None

    def may_come(self) -> bool:
        """Whether a key that is not here is worth waiting for: its token may be the first of a new key."""
        return False

    async def arrival(self) -> None:
        """Wait until more keys have come, or until it is certain that they have not."""


class GivenKeys(Keys):
    """Keys that are known from the start."""

    def __init__(self, source: LocalJwks) -> None:
        from .jwks import KeySet  # brings pyjwt and cryptography, which only those wait for who have keys

        try:
            self.current = KeySet.parse(source.inline)
        except ValueError:
            self.current = KeySet(())


class FetchedKeys(Keys):
    """Keys that `run` fetches."""

    def __init__(self, source: RemoteJwks, get: Get) -> None:
        self.current = None
        self._source = source
        self._get = get
        self._tried = trio.Event()
        self._wanted = trio.Event()
        self._unknown_at = float("-inf")
        self._fails = False

    async def run(self) -> None:
        """Fetch them again and again, until cancelled."""
        retry_s = _FIRST_RETRY_S
        while True:
            fetched = await self._fetch()
            self._tried.set()
            self._tried, self._wanted = trio.Event(), trio.Event()
            pause_s, retry_s = (REFRESH_S, _FIRST_RETRY_S) if fetched else (retry_s, min(retry_s * 2, _LAST_RETRY_S))
            with trio.move_on_after(pause_s):
                await self._wanted.wait()

    async def arrival(self) -> None:
        with trio.move_on_after(self._source.timeout_s):
            await self._tried.wait()

    def may_come(self) -> bool:
        if self.current is None:
            return not self._fails  # while an issuer cannot be reached, nobody waits for it
        now = trio.current_time()
        if now - self._unknown_at < UNKNOWN_KEY_PAUSE_S:
            return False
        self._unknown_at = now
        self._wanted.set()
        return True

    async def _fetch(self) -> bool:
        from .jwks import KeySet  # see GivenKeys

        source = self._source
        try:
            uri = await self._discover() if source.discovered else source.uri
            self.current = KeySet.parse((await self._get(uri, source.timeout_s)).decode())
        except (OSError, ValueError) as error:
            if not self._fails:
                kept = "the keys that are known stay" if self.current else "its tokens are refused"
                _log.warning("no keys from %s: %s; %s, and it is tried again", source.uri, error, kept)
            self._fails = True
            return False
        if self._fails:
            _log.info("keys have come from %s", source.uri)
        self._fails = False
        return True

    async def _discover(self) -> str:
        """Where an issuer's keys are (OpenID Connect Discovery 1.0, section 3, `jwks_uri`)."""
        configuration = read_json(await self._get(self._source.uri, self._source.timeout_s))
        uri = configuration.get("jwks_uri") if isinstance(configuration, dict) else None
        if not isinstance(uri, str) or urlsplit(uri).scheme not in ("http", "https"):
            raise ValueError("its OpenID configuration names no jwks_uri")
        return uri


class Issuers:
    """The keys of every source that a proxy's listeners name, each fetched once for all."""

    def __init__(self, get: Get | None = None) -> None:
        self._get = get or fetch
        self._keys: dict[Jwks, Keys] = {}

    def keys(self, source: Jwks) -> Keys:
        """The keys of a source."""
        if source not in self._keys:
            match source:
                case LocalJwks():
                    self._keys[source] = GivenKeys(source)
                case RemoteJwks():
                    self._keys[source] = FetchedKeys(source, self._get)
        return self._keys[source]

    async def run(self) -> None:
        """Keep fresh what is fetched, until cancelled."""
        async with trio.open_nursery() as nursery:
            for keys in self._keys.values():
                if isinstance(keys, FetchedKeys):
                    nursery.start_soon(keys.run)


async def fetch(url: str, timeout_s: float) -> bytes:
    """GET `url`, at most `MAX_BYTES`. A redirect is no answer. Raises `OSError` or `ValueError`."""
    import httpx  # takes a tenth of a second to import, and few meshes have keys to fetch

    try:
        with trio.fail_after(timeout_s):
            # Nothing is unpacked: a small answer cannot become a large one.
            headers = {"accept-encoding": "identity"}
            async with (
                httpx.AsyncClient(timeout=None, headers=headers) as client,
                client.stream("GET", url) as response,
            ):
                if response.status_code != 200:
                    raise ValueError(f"status {response.status_code}")
                body = b""
                async for piece in response.aiter_raw():  # to its end: httpx minds if it is left before
                    body += piece if len(body) <= MAX_BYTES else b""
                if len(body) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES} bytes")
                return body
    except trio.TooSlowError:
        raise OSError(f"no answer in {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(str(error) or type(error).__name__) from error
