"""The client's side of TLS: how the connections to a host are secured, and one goes on with what another has agreed on.

Rules:

1. What cannot be verified is no connection: nothing is sent before the peer's certificate has been found good, and
   where key material is missing, nothing is sent at all.
2. A session goes on only by the context that it began with, and while the certificate that it began with is valid: what
   a certificate proves is looked at anew when key material changes.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ...identity.errors import IdentityError, Unusable
from ...identity.material import Authorities
from ...snapshot import UpstreamTlsContext
from ...telemetry.metrics import UpstreamTlsStats
from ..transport import Transport
from .errors import TlsFailed, failed, no_secret, not_verified
from .names import alternative_names, has_name, meets, server_name
from .peer import shown_chain
from .secrets import MissingSecret, Secrets
from .transport import TlsTransport

if TYPE_CHECKING:
    from ...identity.peers import Peers

_log = logging.getLogger(__name__)

Contexts = Callable[[], ssl.SSLContext]
"""The context of the key material as it is now. Raises `MissingSecret` while some of it is not there."""

Roots = Callable[[], Authorities]
"""Whom to believe now. Raises `MissingSecret`."""


class UpstreamTls:
    """How a cluster's connections are secured. `where` names it, for people."""

    __slots__ = ("_authorities", "_peers", "_roots", "config", "contexts", "stats", "where")

    def __init__(self, config: UpstreamTlsContext, contexts: Contexts, where: str, roots: Roots | None = None) -> None:
        """`roots` are needed where peers have to prove an identity."""
        self.config = config
        self.contexts = contexts
        self.where = where
        self.stats = UpstreamTlsStats()
        self._roots = roots
        self._authorities: Authorities | None = None
        self._peers: Peers | None = None

    @classmethod
    def of(cls, config: UpstreamTlsContext, secrets: Secrets, where: str) -> UpstreamTls:
        """With what a proxy's secrets stand for. Raises `Unusable`: OpenSSL refuses it."""
        from .contexts import shared_client_contexts  # brings cryptography, for which plain clusters need not wait

        common = config.common
        trusted = common.validation_context.trusted_ca if common.validation_context is not None else None
        try:
            contexts = shared_client_contexts(common, secrets, where)
        except (OSError, ValueError) as error:
            raise Unusable(f"{where}: its settings of TLS are of no use to OpenSSL: {error}") from error
        return cls(config, contexts, where, None if trusted is None else partial(secrets.authorities, trusted))

    @property
    def by_authority(self) -> bool:
        """Which server is asked for depends on the request."""
        return self.config.auto_host_sni or self.config.auto_sni_san_validation

    def client(self, authority: bytes = b"") -> TlsClient:
        """What secures the connections for requests to an authority."""
        name = server_name(authority)
        config = self.config
        expected = name.host if config.auto_sni_san_validation else None
        return TlsClient(self, name.sni if config.auto_host_sni else config.sni, expected)

    def identify(self, chain: Sequence[bytes]) -> None:
        """See to it that a peer's chain proves an identity in the mesh, where it has to. Raises `NotVerified`."""
        validation = self.config.common.validation_context
        if validation is None or not validation.trust_domains or self._roots is None:
            return
        authorities = self._roots()
        if self._peers is None or authorities is not self._authorities:
            self._authorities = authorities
            from ...identity.peers import Peers  # as above

            self._peers = Peers(
                roots=authorities.certificates,
                crls=authorities.crls,
                trust_domains=validation.trust_domains,
                clock=lambda: datetime.now(UTC),
            )
        self._peers.verify(chain)


class TlsClient:
    """What secures the connections to one host that is asked for one server.

    It keeps what a connection has agreed on: further ones go on with that, which saves both ends most of a handshake.
    OpenSSL is asked for it when it is first needed, because by TLS 1.3 it is told some time after the handshake; and
    not again and again where there is nothing to be had: to copy a session takes 300 µs.
    """

    __slots__ = ("_context", "_ends", "_fruitless", "_last", "_session", "_sni", "_tls", "_told", "expected")

    def __init__(self, tls: UpstreamTls, sni: str, expected: str | None) -> None:
        self._tls = tls
        self._sni = sni.encode() or None
        self.expected = expected
        """A name that the peer's certificate must have."""
        self._context: ssl.SSLContext | None = None
        self._last: ssl.SSLObject | None = None
        """The last connection that began a session."""
        self._session: ssl.SSLSession | None = None
        self._ends: str | float = 0.0
        """When the certificate ends that the session began with, as it says so itself, or as Unix time."""
        self._fruitless = 0
        """How often in a row there was no session to go on with."""
        self._told = ""

    def __repr__(self) -> str:
        return f"<TlsClient {self._tls.where}, for {self._sni!r}>"

    async def secure(self, transport: Transport) -> TlsTransport:
        """TLS on a connection, which is closed if that fails, and it is logged why. Raises `TlsFailed`."""
        stats = self._tls.stats
        try:
            secured = await self.secure_quietly(transport)
        except TlsFailed as error:
            setattr(stats, error.counter, getattr(stats, error.counter) + 1)
            self._tell(error)
            raise
        stats.handshake += 1
        stats.session_reused += bool(secured.tls.session_reused)
        self._told = ""
        return secured

    async def secure_quietly(self, transport: Transport) -> TlsTransport:
        """As `secure`, for one who tells people of it."""
        try:
            context = self._tls.contexts()
        except MissingSecret as error:
            transport.close()
            raise no_secret(error) from error
        secured = TlsTransport(transport, context, server_hostname=self._sni, session=self._earlier(context))
        try:
            await secured.handshake()
            certificate = secured.tls.getpeercert()
            self._verify(certificate)
            if not secured.tls.session_reused:  # the chain is told at the beginning of a session only
                self._tls.identify(shown_chain(secured.tls))
        except BaseException as error:
            self._last = self._session = None
            secured.abort()
            if isinstance(error, (OSError, IdentityError)):
                raise failed(error) from error
            raise
        if not secured.tls.session_reused:
            self._context, self._last, self._session = context, secured.tls, None
            ends = (certificate or {}).get("notAfter")
            self._ends = ends if isinstance(ends, str) else math.inf
        return secured

    def _earlier(self, context: ssl.SSLContext) -> ssl.SSLSession | None:
        """What an earlier connection has agreed on, if another may go on with that."""
        if context is not self._context:
            self._last = self._session = None
        if self._session is None:
            if self._last is None:
                return None
            found = self._last.session if self._fruitless < 3 or not self._fruitless % 64 else None
            if found is None or not (found.has_ticket or found.id):
                self._fruitless += 1
                return None
            self._session, self._last, self._fruitless = found, None, 0
        if isinstance(self._ends, str):
            self._ends = ssl.cert_time_to_seconds(self._ends)
        return self._session if time.time() < self._ends else None

    def _verify(self, certificate: dict[str, Any] | None) -> None:
        """See to it that the certificate has a name that will do. That it is valid otherwise, OpenSSL has seen to."""
        validation = self._tls.config.common.validation_context
        matchers = validation.match_subject_alt_names if validation is not None else ()
        if self.expected is None and not matchers:
            return
        names = alternative_names(certificate)
        told = ", ".join(name.value for name in names)
        if self.expected is not None and not has_name(names, self.expected):
            raise not_verified(
                f"verify SAN list, expected SANs: [{self.expected}], certificate SANs: [{told}]",
                f"the peer's certificate is not for {self.expected!r}; it is for {told or 'no name at all'}",
                "fail_verify_san",
            )
        if matchers and not meets(names, matchers):
            wanted = ", ".join(matcher.value for matcher in matchers)
            raise not_verified(
                f"SAN matcher, certificate SANs are [{told}]",
                f"the peer's certificate has none of the names {wanted}; it is for {told or 'no name at all'}",
                "fail_verify_san",
            )

    def _tell(self, error: TlsFailed) -> None:
        """Log what is wrong, once for as long as nothing else is."""
        text = str(error)
        if text != self._told:
            self._told = text
            _log.warning("%s: %s", self._tls.where, text)
