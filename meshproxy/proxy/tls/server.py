"""The server's side of TLS: the connections of a filter chain are secured, and it is found out who is there.

Rule: who has to be somebody and is not gets no byte of an answer. Where OpenSSL does not know what is asked of a
certificate, it is looked at when the handshake is over, and the connection reset.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ...identity import certificates
from ...identity.errors import NotVerified
from ...identity.peers import Peers
from ...snapshot import CertificateValidationContext, ClientCertDetails, DownstreamTlsContext
from ...telemetry.metrics import TlsStats
from ..http.client_cert import client_cert_element, rfc2253
from ..transport import LOST, Transport
from .contexts import Current, asked_for, secret_names, server_context
from .names import alternative_names, meets
from .peer import shown_chain
from .secrets import MissingSecret, Secrets
from .transport import TlsTransport

_log = logging.getLogger(__name__)


class Secured(NamedTuple):
    """A connection that has been secured, and the certificate that the client has proven to have, if any.

    `own_uris` are what our own certificate is called.
    """

    transport: TlsTransport
    peer: x509.Certificate | None
    own_uris: tuple[str, ...]

    @property
    def server_name(self) -> str:
        """The server that the client has asked for, in lower case."""
        return asked_for(self.transport.tls)

    @property
    def peer_names(self) -> tuple[bytes, ...]:
        """What rules call the client."""
        return () if self.peer is None else principal_names(self.peer)

    def told(self, details: ClientCertDetails | None) -> bytes:
        """What servers are told of the client's certificate."""
        if self.peer is None or details is None:
            return b""
        return client_cert_element(self.peer, self.own_uris, details)


class ServerTls:
    """How a filter chain's connections are secured. `where` is the chain, for people.

    `own_uris` are the URIs in the first of its own certificates, which tell whom a client has spoken to.
    """

    def __init__(
        self,
        config: DownstreamTlsContext,
        secrets: Secrets,
        stats: TlsStats,
        where: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Raises `OSError` when OpenSSL refuses the configuration."""
        self.own_uris: tuple[str, ...] = ()
        self._common = config.common
        self._validation = config.common.validation_context
        self._secrets = secrets
        self._stats = stats
        self._where = where
        self._now = now
        self._peers: Peers | None = None
        self._missed = False  # it has been told that something is missing
        self._learn()
        # First what is looked at afterwards: whoever is let in by a new context is looked at by what is new.
        secrets.subscribe(secret_names(config.common), self._learn)
        self._context = Current(lambda: server_context(config, secrets), secrets, config.common, where)

    def __repr__(self) -> str:
        return f"<ServerTls {self._where}>"

    def _learn(self) -> None:
        """Take over what depends on secrets besides the context."""
        try:
            own = self._secrets.key_pair(self._common.tls_certificates[0])
            self.own_uris = uris(own.leaf)
            validation = self._validation
            if validation is not None and validation.trust_domains and validation.trusted_ca is not None:
                trusted = self._secrets.authorities(validation.trusted_ca)
                self._peers = Peers(
                    roots=trusted.certificates,
                    crls=trusted.crls,
                    trust_domains=validation.trust_domains,
                    clock=self._now,
                )
        except (MissingSecret, IndexError):
            pass  # there is no context either

    async def secure(self, transport: Transport, received: bytes = b"", timeout_s: float = 15.0) -> Secured | None:
        """TLS on a connection, of which `received` has been read; None when nothing came of it: it is closed then."""
        stats = self._stats
        try:
            context = self._context()
        except MissingSecret as error:
            if not self._missed:
                _log.warning("%s: connections are refused: %s", self._where, error)
                self._missed = True
            stats.connection_error += 1
            transport.close()
            return None
        secured = TlsTransport(transport, context, received=received, server_side=True)
        done = False
        try:
            with trio.CancelScope(deadline=trio.current_time() + timeout_s):
                await secured.handshake()
                peer = self._verified(secured.tls)
                done = True
        except LOST as error:
            _log.debug("%s: no TLS with a client: %s", self._where, error)
            _count_failure(stats, error)
        except NotVerified as error:
            _log.debug("%s: a client's certificate is refused: %s", self._where, error)
            stats.fail_verify_error += 1
        finally:
            if not done:
                secured.abort()
        if not done:
            return None
        stats.handshake += 1
        stats.session_reused += bool(secured.tls.session_reused)
        stats.no_certificate += peer is None
        return Secured(secured, peer, self.own_uris)

    def _verified(self, tls: ssl.SSLObject) -> x509.Certificate | None:
        """The client's certificate, None if it has shown none. Raises `NotVerified`; OpenSSL has seen to the chain."""
        validation = self._validation
        der = tls.getpeercert(True) if validation is not None else None
        if der is None or validation is None:
            return None
        try:
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.extensions, certificate.subject
        except certificates.UNREADABLE:
            raise NotVerified("it cannot be read") from None
        if tls.session_reused and self._now() > certificate.not_valid_after_utc:
            raise NotVerified("it has expired since its session began")  # which OpenSSL does not look at again
        if self._peers is not None:
            self._verify_identity(self._peers, tls, certificate, validation)
        if validation.match_subject_alt_names:
            names = alternative_names(tls.getpeercert())
            if not meets(names, validation.match_subject_alt_names):
                raise NotVerified(f"none of its names is asked for: {', '.join(name.value for name in names)}")
        if validation.verify_certificate_hash or validation.verify_certificate_spki:
            _verify_sums(der, certificate, validation)
        return certificate

    def _verify_identity(
        self,
        peers: Peers,
        tls: ssl.SSLObject,
        certificate: x509.Certificate,
        validation: CertificateValidationContext,
    ) -> None:
        if not tls.session_reused:
            peers.verify(shown_chain(tls))
            return
        # A session goes on with its leaf alone, whose chain was verified when it began, by what is trusted now: with
        # other roots or revocation lists there is another context, which knows no session of the old one.
        try:
            identity = certificates.spiffe_id(certificate)
        except ValueError as error:
            raise NotVerified(str(error)) from None
        if identity.trust_domain not in validation.trust_domains:
            raise NotVerified(f"{identity} is of another trust domain")


def uris(certificate: x509.Certificate) -> tuple[str, ...]:
    """The URIs among a certificate's names."""
    return _names(certificate, x509.UniformResourceIdentifier)


def principal_names(certificate: x509.Certificate) -> tuple[bytes, ...]:
    """What rules call the owner of a certificate: its URIs, else its DNS names, else its subject (Envoy's
    `principal_name`)."""
    found = uris(certificate) or _names(certificate, x509.DNSName)
    return tuple(name.encode() for name in found or (rfc2253(certificate.subject),))


def _names(
    certificate: x509.Certificate, kind: type[x509.UniformResourceIdentifier] | type[x509.DNSName]
) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *certificates.UNREADABLE):
        return ()
    return tuple(names.get_values_for_type(kind))


def _verify_sums(der: bytes, certificate: x509.Certificate, validation: CertificateValidationContext) -> None:
    """One of the sums that are asked for has to be right, of the certificate or of its key."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    spki = base64.b64encode(hashlib.sha256(key).digest()).decode()
    own = hashlib.sha256(der).hexdigest()
    hashes = (one.replace(":", "").lower() for one in validation.verify_certificate_hash)
    if own not in hashes and spki not in validation.verify_certificate_spki:
        raise NotVerified("neither it nor its key is one of those that are listed")


def _count_failure(stats: TlsStats, error: BaseException) -> None:
    if isinstance(error, ssl.SSLCertVerificationError):
        stats.fail_verify_error += 1
    elif isinstance(error, ssl.SSLError) and error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        stats.fail_verify_no_cert += 1
    stats.connection_error += 1
