"""`ca serve`: signs requests of workloads on other machines, over HTTPS (`protocol`).

One connection carries one request, with bounds on its size, its time, and the number of connections: of a control plane
that is asked twice a day by each workload, plain and correct is all that is wanted. Signing waits for files, so it is
done in a thread; whatever goes wrong there costs that one connection.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

import h11
import trio
from cryptography import x509

from . import certificates, keys
from .admission import Attempts, admit
from .authority import Authority
from .certificates import WORKLOAD_LIFETIME, Name
from .credentials import Credentials, show_in
from .errors import IdentityError, Refused
from .protocol import PATH, TIMEOUT_S, issued_body, refused_body
from .renewal import renewal_time
from .signing_requests import MAX_REQUEST

_log = logging.getLogger(__name__)

_MAX_HEAD = 16 * 1024
_MAX_CONNECTIONS = 256
_MAX_CONNECTIONS_OF_ONE = 64
_LINGER_S = 2.0
_RECEIVE_SIZE = 16 * 1024
_EXPIRY_WARNING = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    token: str | None
    body: bytes


class CaServer:
    """Serves one CA. `names` are those by which clients that know no SPIFFE, such as curl, may call it."""

    def __init__(
        self,
        authority: Authority,
        names: Iterable[Name],
        clock: Callable[[], datetime],
        lifetime: timedelta = WORKLOAD_LIFETIME,
    ) -> None:
        self._authority = authority
        self._names = tuple(names)
        self._clock = clock
        self._lifetime = lifetime
        self._attempts = Attempts()
        self._connections: Counter[str] = Counter()
        self._context: ssl.SSLContext | None = None
        self._trusted: Sequence[x509.Certificate] = ()
        self._renew_at = clock()

    def prepare(self) -> None:
        """Get the server's own certificate, or a new one when it is time. Raises `IdentityError`; waits for files."""
        now = self._clock()
        roots = self._authority.trusted().roots
        if self._context is not None and roots == self._trusted and now < self._renew_at:
            return
        key = keys.generate()
        issued = self._authority.issue_for_server(key.public_key(), self._names, now)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A resumed session would bring a certificate that was verified before: each connection proves it anew.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=certificates.to_pem(issued.roots).decode())
        show_in(context, Credentials(key, issued))
        self._context, self._trusted, self._renew_at = context, issued.roots, renewal_time(issued.leaf)
        where, end = self._authority.expires()
        if end - now < _EXPIRY_WARNING:
            _log.warning("%s expires on %s: bring in a new one with `meshproxy ca rotate`", where, f"{end:%Y-%m-%d}")

    async def serve(self, listeners: list[trio.SocketListener], stopped: trio.Event) -> None:
        """Serve until `stopped`; what is being answered then is answered, each within its time."""
        async with trio.open_nursery() as answering, trio.open_nursery() as accepting:
            accepting.start_soon(self._accept, listeners, answering)
            await stopped.wait()
            accepting.cancel_scope.cancel()

    async def _accept(self, listeners: list[trio.SocketListener], answering: trio.Nursery) -> None:
        await trio.serve_listeners(self._connected, listeners, handler_nursery=answering)

    async def _connected(self, stream: trio.SocketStream) -> None:
        """Answer one connection; never raises an error."""
        try:
            address = stream.socket.getpeername()[0]
        except OSError:
            address = "a client that has left"
        try:
            if self._connections.total() >= _MAX_CONNECTIONS or self._connections[address] >= _MAX_CONNECTIONS_OF_ONE:
                _log.warning("refused %s: too many connections at once", address)
                return
            self._connections[address] += 1
            try:
                with trio.move_on_after(TIMEOUT_S) as scope:
                    await self._answer(stream, address)
                if scope.cancelled_caught:
                    _log.info("gave up on %s: it took longer than %g s", address, TIMEOUT_S)
            finally:
                self._connections[address] -= 1
                if not self._connections[address]:
                    del self._connections[address]
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            _log.info("lost %s: %s", address, _reason(error))
        except IdentityError as error:
            _log.error("cannot serve %s: %s", address, error)
        except Exception:
            _log.exception("serving %s failed", address)
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.SocketStream, address: str) -> None:
        await trio.to_thread.run_sync(self.prepare)
        assert self._context is not None
        tls = trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)
        await tls.do_handshake()
        shown = tls.getpeercert(binary_form=True)
        certificate = None if shown is None else x509.load_der_x509_certificate(shown)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        headers = []
        try:
            request = await _receive(connection, tls)
            body = await self._sign(request, address, certificate)
            status = 200
        except Refused as refused:
            status, body = refused.status, refused_body(str(refused))
            headers = _headers_of(refused)
        except h11.RemoteProtocolError as error:
            status, body = error.error_status_hint, refused_body(f"not a request in HTTP/1.1: {error}")
        await self._send(connection, tls, status, headers, body)

    async def _sign(self, request: _Request, address: str, certificate: x509.Certificate | None) -> bytes:
        if request.path != PATH:
            raise Refused(404, f"there is only {PATH}")
        if request.method != "POST":
            raise Refused(405, "use POST")
        # A workload that proves who it is does not wait for what others do behind the same address.
        who = _network(address) if certificate is None else f"{certificate.serial_number:x}"
        wait_s = self._attempts.wait_s(who, trio.current_time())
        if wait_s:
            raise TooManyAttempts(wait_s)
        now = self._clock()

        def sign() -> bytes:
            identity, issued = admit(
                self._authority,
                request.body,
                token=request.token,
                certificate=certificate,
                now=now,
                lifetime=self._lifetime,
            )
            how = "a join token" if request.token is not None else "its certificate"
            _log.info("signed %s for %s at %s, by %s", f"{issued.leaf.serial_number:x}", identity, address, how)
            return issued_body(str(identity), issued)

        try:
            return await trio.to_thread.run_sync(sign)
        except Refused as refused:
            self._attempts.refused(who, trio.current_time())
            _log.warning("refused %s: %s", address, refused)
            raise
        except IdentityError as error:
            _log.error("cannot sign for %s: %s", address, error)
            raise Refused(503, "the CA cannot sign at present; its log says why") from None

    async def _send(
        self,
        connection: h11.Connection,
        tls: trio.SSLStream[trio.SocketStream],
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
    ) -> None:
        own = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        response = h11.Response(status_code=status, headers=[*own, *headers])
        events = (response, h11.Data(data=body), h11.EndOfMessage())
        await tls.send_all(b"".join(connection.send(event) or b"" for event in events))
        # What the client has not finished saying must not make the kernel reset what it has yet to read.
        with trio.move_on_after(_LINGER_S):
            tls.transport_stream.socket.shutdown(trio.socket.SHUT_WR)
            while await tls.transport_stream.receive_some(_RECEIVE_SIZE):
                pass


class TooManyAttempts(Refused):
    """Refused until `wait_s` have passed, whatever is asked for."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(429, f"too many attempts were refused; try again in {math.ceil(wait_s)} s")
        self.wait_s = wait_s


async def _receive(connection: h11.Connection, tls: trio.SSLStream[trio.SocketStream]) -> _Request:
    """The one request of a connection. Raises `Refused`, `h11.RemoteProtocolError`, and what a stream raises."""
    head = await _next_event(connection, tls)
    if not isinstance(head, h11.Request):
        raise trio.BrokenResourceError("it sent no request")
    headers = dict(head.headers)
    if int(headers.get(b"content-length", b"0")) > MAX_REQUEST:
        raise Refused(413, f"the signing request has more than {MAX_REQUEST} bytes")
    if connection.they_are_waiting_for_100_continue:
        await tls.send_all(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
    body = b""
    while isinstance(event := await _next_event(connection, tls), h11.Data):
        body += event.data
        if len(body) > MAX_REQUEST:
            raise Refused(413, f"the signing request has more than {MAX_REQUEST} bytes")
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme and scheme.lower() != "bearer":
        raise Refused(401, "a join token is sent as `Authorization: Bearer TOKEN`")
    return _Request(head.method.decode(), head.target.decode(), token.strip() if scheme else None, body)


async def _next_event(connection: h11.Connection, tls: trio.SSLStream[trio.SocketStream]) -> h11.Event:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Event):
            return event
        if event is h11.PAUSED:
            raise trio.BrokenResourceError("it sent more than one request")
        connection.receive_data(bytes(await tls.receive_some(_RECEIVE_SIZE)))


def _headers_of(refused: Refused) -> list[tuple[str, str]]:
    match refused:
        case TooManyAttempts(wait_s=wait_s):
            return [("retry-after", str(math.ceil(wait_s)))]
        case Refused(status=401):
            return [("www-authenticate", "Bearer")]
        case Refused(status=405):
            return [("allow", "POST")]
    return []


def _network(address: str) -> str:
    """Who is counted as one: an address, and of IPv6 the network of a subscriber, who chooses the rest."""
    parsed = ip_address(address.partition("%")[0])
    if parsed.version == 4 or parsed.ipv4_mapped is not None:
        return str(parsed)
    return str(ip_network((parsed, 64), strict=False))


def _reason(error: BaseException) -> str:
    """What a stream's failure comes from, in a few words: trio hides it behind its own."""
    cause = error.__cause__ or error
    return getattr(cause, "strerror", None) or str(cause) or "it broke the connection off"
