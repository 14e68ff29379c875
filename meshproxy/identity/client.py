"""A workload's side of the CA: get a certificate, and a new one at half of its life.

What decides is apart from what waits: `renewal_time` says when, `checked` whether to believe what a CA has answered,
and `keep_current` carries it out. A CA is a function, `Obtain`: `RemoteCa` asks `ca serve`, `local_ca` signs here.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NoReturn, TypeAlias

import h11
import tenacity
import trio
from cryptography import x509

from . import certificates, keys
from .authority import Authority, server_id
from .certificates import WORKLOAD_LIFETIME
from .credentials import Credentials, Issued, show_in
from .errors import IdentityError, NotVerified, Refused, Unusable
from .keys import PrivateKey
from .protocol import CONTENT_TYPE, DEFAULT_PORT, MAX_ANSWER, PATH, TIMEOUT_S, parse_issued, parse_refused
from .renewal import renewal_time
from .signing_requests import parse_request, signing_request
from .spiffe import SpiffeId
from .verification import verify_peer

_log = logging.getLogger(__name__)

Clock: TypeAlias = Callable[[], datetime]
Obtain: TypeAlias = Callable[[bytes, Credentials | None], Awaitable[Issued]]
"""Has a signing request signed: of a workload that has these credentials so far, or none. Raises `IdentityError`."""

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 300.0
_MAX_SLEEP_S = 60.0
_RECEIVE_SIZE = 64 * 1024


class Unreachable(IdentityError):
    """A CA does not answer; it may later."""


def checked(issued: Issued, key: PrivateKey, identity: SpiffeId, now: datetime) -> Credentials:
    """What a CA has issued for a key, if it is a certificate that proves the identity. Raises `NotVerified`."""
    if not keys.fits(key, issued.leaf.public_key()):
        raise NotVerified(f"the CA has issued a certificate for another key than that of {identity}")
    verify_peer(issued.chain, roots=issued.roots, now=now, trust_domains=(identity.trust_domain,), ids=(identity,))
    return Credentials(key, issued)


async def obtain(ca: Obtain, identity: SpiffeId, current: Credentials | None, clock: Clock) -> Credentials:
    """A new key and a certificate for it, once. Raises `IdentityError`."""
    key = keys.generate()
    return checked(await ca(signing_request(key, identity), current), key, identity, clock())


async def keep_current(
    ca: Obtain,
    identity: SpiffeId,
    current: Credentials | None,
    changed: Callable[[Credentials], None],
    *,
    clock: Clock,
    chance: Callable[[], float],
) -> NoReturn:
    """Tell `changed` of new credentials: at once if there are none yet, and then at each half of their life.

    While a CA cannot be reached, it is asked again, less and less often. `chance` draws a number from 0 to 1.

    Raises:
        IdentityError: there are no credentials yet, and the CA refuses to give any.
    """
    obtained: datetime | None = None
    while True:
        if current is not None:
            await _sleep_until(renewal_time(current.issued.leaf, chance(), obtained), clock)
        renewed: Credentials = await _retrying(current, chance)(obtain, ca, identity, current, clock)
        changed(renewed)
        current, obtained = renewed, clock()


def _retrying(current: Credentials | None, chance: Callable[[], float]) -> tenacity.AsyncRetrying:
    def passes(error: BaseException) -> bool:
        if isinstance(error, Refused):
            # Without credentials nothing will change by asking again; with some, an operator may still put it right.
            return current is not None or error.status in (429, 503)
        return isinstance(error, Unreachable if current is None else IdentityError)

    def wait_s(state: tenacity.RetryCallState) -> float:
        # Between half of the time and all of it, so that those who lost their CA together do not return together.
        longest = min(_LAST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(state.attempt_number - 1, 30))
        return longest * (1 + chance()) / 2

    def tell(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        _log.warning("no new certificate: %s; trying again in %.0f s", state.outcome.exception(), state.upcoming_sleep)

    return tenacity.AsyncRetrying(
        sleep=trio.sleep, retry=tenacity.retry_if_exception(passes), wait=wait_s, before_sleep=tell, reraise=True
    )


async def _sleep_until(time: datetime, clock: Clock) -> None:
    # In short steps: while a laptop is asleep the monotonic clock stands still, and certificates grow old.
    while (left_s := (time - clock()).total_seconds()) > 0:  # noqa: ASYNC110
        await trio.sleep(min(left_s, _MAX_SLEEP_S))


def local_ca(authority: Authority, clock: Clock, lifetime: timedelta = WORKLOAD_LIFETIME) -> Obtain:
    """A CA in a directory of this machine: whoever may read its key needs no token."""

    async def sign(request: bytes, current: Credentials | None) -> Issued:
        wanted = parse_request(request)
        return await trio.to_thread.run_sync(authority.issue, wanted.public_key, wanted.identity, clock(), lifetime)

    return sign


@dataclass(frozen=True, slots=True)
class RemoteCa:
    """`ca serve` at an address. `roots` are what it is believed by until it has told of others; an `Obtain`."""

    host: str
    trust_domain: str
    roots: tuple[x509.Certificate, ...]
    port: int = DEFAULT_PORT
    join_token: str | None = field(default=None, repr=False)

    async def __call__(self, request: bytes, current: Credentials | None) -> Issued:
        try:
            with trio.fail_after(TIMEOUT_S):
                status, body = await self._exchange(request, current)
        except trio.TooSlowError:
            raise Unreachable(f"{self} does not answer within {TIMEOUT_S:g} s") from None
        except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            raise _in_words(self, error) from None
        if status != 200:
            raise Refused(status, f"{self} refuses ({status}): {parse_refused(body)}")
        return parse_issued(body)

    def __str__(self) -> str:
        return f"the CA at {f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def _exchange(self, request: bytes, current: Credentials | None) -> tuple[int, bytes]:
        async with await self._connect(current) as tls:
            self._verify(tls)
            headers = [
                ("host", f"{self.host}:{self.port}"),
                ("content-type", CONTENT_TYPE),
                ("content-length", str(len(request))),
                ("connection", "close"),
            ]
            if current is None and self.join_token is not None:
                headers.append(("authorization", f"Bearer {self.join_token}"))
            connection = h11.Connection(h11.CLIENT)
            for event in (
                h11.Request(method="POST", target=PATH, headers=headers),
                h11.Data(data=request),
                h11.EndOfMessage(),
            ):
                await tls.send_all(connection.send(event) or b"")
            return await _response(connection, tls)

    async def _connect(self, current: Credentials | None) -> trio.SSLStream[trio.SocketStream]:
        roots = self.roots if current is None else (*self.roots, *current.issued.roots)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False  # in a mesh it is the SPIFFE ID that says who a server is
        context.load_verify_locations(cadata=certificates.to_pem(roots).decode())
        if current is not None:
            show_in(context, current)
        stream = await trio.open_tcp_stream(self.host, self.port)
        try:
            tls = trio.SSLStream(stream, context, https_compatible=True)
            await tls.do_handshake()
            return tls
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    def _verify(self, tls: trio.SSLStream[trio.SocketStream]) -> None:
        """OpenSSL has verified the chain; that it is the CA's, and no workload's of the mesh, is ours to see."""
        shown = tls.getpeercert(binary_form=True)
        expected = server_id(self.trust_domain)
        try:
            found = certificates.spiffe_id(x509.load_der_x509_certificate(shown or b""))
        except ValueError as error:
            raise NotVerified(f"{self} shows a certificate that is no CA's of ours: {error}") from None
        if found != expected:
            raise NotVerified(f"{self} shows the certificate of {found}; expected is {expected}")


async def _response(connection: h11.Connection, tls: trio.SSLStream[trio.SocketStream]) -> tuple[int, bytes]:
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await tls.receive_some(_RECEIVE_SIZE)))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_ANSWER:
                raise Unusable(f"the CA's answer has more than {MAX_ANSWER} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, body


def _in_words(ca: RemoteCa, error: Exception) -> IdentityError:
    cause = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]  # one for each address that was tried
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NotVerified(f"{ca} is not one that the given roots vouch for: {cause.verify_message}; compare --ca-root")
    if isinstance(cause, ssl.SSLError):
        return Unreachable(f"{ca} ends the TLS handshake: {cause.reason or cause}")
    reason = getattr(cause, "strerror", None) or str(cause) or "the connection broke"
    return Unreachable(f"{ca} cannot be reached: {reason}; see that `meshproxy ca serve` runs there")
