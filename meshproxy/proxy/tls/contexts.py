"""OpenSSL's contexts, made of a snapshot's TLS contexts and of the material of its secrets.

A context is made once, and made anew when a secret that it is made of changes: connections that there are go on with
the old one, and sessions do not outlive it.
"""

from __future__ import annotations

import logging
import ssl
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from cryptography import x509
from cryptography.x509.oid import NameOID

from ...identity import certificates, revocation
from ...identity.credentials import Credentials, Issued, show_in
from ...identity.material import Authorities, KeyPair
from ...snapshot import CertificateValidationContext, CommonTlsContext, DownstreamTlsContext
from .secrets import MissingSecret, Secrets

_log = logging.getLogger(__name__)

# Envoy's, of its own TLS library: nothing older than TLS 1.2, and nothing without forward secrecy.
DEFAULT_CIPHER_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)

_VERSIONS = {
    "TLSv1_0": ssl.TLSVersion.TLSv1,
    "TLSv1_1": ssl.TLSVersion.TLSv1_1,
    "TLSv1_2": ssl.TLSVersion.TLSv1_2,
    "TLSv1_3": ssl.TLSVersion.TLSv1_3,
}


class Current:
    """A context that is made anew when one of `secrets` that it is made of changes. Calling it returns the present one.

    `where` is whose context it is, for people.
    """

    __slots__ = ("_context", "_make", "_where")

    def __init__(
        self, make: Callable[[], ssl.SSLContext], secrets: Secrets, common: CommonTlsContext, where: str
    ) -> None:
        self._make = make
        self._where = where
        self._context: ssl.SSLContext | None = None
        self._change()
        secrets.subscribe(secret_names(common), self._change)

    def __call__(self) -> ssl.SSLContext:
        """Raises `MissingSecret`, as long as there is not all that it is made of."""
        return self._context or self._make()

    def _change(self) -> None:
        try:
            self._context = self._make()
        except MissingSecret:
            self._context = None
        except (OSError, ValueError) as error:
            if self._context is None:
                raise
            _log.error("%s: new key material is of no use, and the old stays: %s", self._where, error)


def server_context(config: DownstreamTlsContext, secrets: Secrets) -> ssl.SSLContext:
    """What a server's connections are made with. Raises `MissingSecret`, and `OSError` when OpenSSL refuses it."""
    common = config.common
    pairs = [secrets.key_pair(name) for name in common.tls_certificates]
    if not pairs:
        raise MissingSecret("a server needs a certificate")

    def made(shown: Iterable[KeyPair]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = _ServerSide
        context.sni_callback = _note_server_name
        context.num_tickets = 1  # each costs a tenth of a handshake, and a client goes on with one
        _apply(context, common, secrets)
        if not common.cipher_suites:
            # Clients know better which cipher is cheap for them; OpenSSL would take the longest keys.
            context.options &= ~ssl.Options.OP_CIPHER_SERVER_PREFERENCE
        if common.validation_context is not None:
            required = config.require_client_certificate
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        for pair in shown:
            _show(context, pair)
        return context

    context = made(_one_of_each_kind(pairs))
    if len(pairs) > 1:
        _choose_by_name(context, pairs, made)
    return context


def client_context(common: CommonTlsContext, secrets: Secrets) -> ssl.SSLContext:
    """What a client's connections are made with. Which names the server's certificate must have, whoever connects
    finds out. Raises `MissingSecret`, and `OSError` when OpenSSL refuses it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _apply(context, common, secrets)
    if common.validation_context is not None and common.validation_context.trusted_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    for name in common.tls_certificates:
        _show(context, secrets.key_pair(name))
    return context


class _ServerSide(ssl.SSLObject):
    """A server's end, which knows what it is asked for."""

    server_name = ""


def _note_server_name(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
    assert isinstance(connection, _ServerSide)
    connection.server_name = (name or "").lower()


def asked_for(connection: ssl.SSLObject) -> str:
    """The server that a client has asked for (SNI), in lower case; empty when it has not said."""
    return connection.server_name if isinstance(connection, _ServerSide) else ""


def shared_client_contexts(common: CommonTlsContext, secrets: Secrets, where: str) -> Callable[[], ssl.SSLContext]:
    """The contexts of a client, shared by all whose connections differ in nothing that OpenSSL is told.

    A sidecar calls each service by the same certificate, and expects another name of each. To make a context takes
    milliseconds: a thousand of them, at each renewal, would have requests wait for seconds.
    """
    validation = common.validation_context
    if validation is not None:
        validation = CertificateValidationContext(validation.trusted_ca)
    alike = replace(common, validation_context=validation)
    found = secrets.clients.get(alike)
    if found is None:
        made = Current(partial(client_context, alike, secrets), secrets, alike, where)
        found = secrets.clients[alike] = made
    return found


def secret_names(common: CommonTlsContext) -> tuple[str, ...]:
    """The secrets that a context is made of."""
    trusted = common.validation_context.trusted_ca if common.validation_context is not None else None
    return (*common.tls_certificates, *([trusted] if trusted is not None else ()))


def _apply(context: ssl.SSLContext, common: CommonTlsContext, secrets: Secrets) -> None:
    context.options |= ssl.OP_NO_RENEGOTIATION
    with warnings.catch_warnings():
        # Who asks for versions that are no longer safe knows.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[common.minimum_version]
        context.maximum_version = _VERSIONS[common.maximum_version]
    old = common.minimum_version in ("TLSv1_0", "TLSv1_1")
    suites = common.cipher_suites or (*DEFAULT_CIPHER_SUITES, *(_OLD_CIPHER_SUITES if old else ()))
    # OpenSSL speaks versions before TLS 1.2 on its lowest level of security only.
    context.set_ciphers(":".join((*suites, *(("@SECLEVEL=0",) if old else ()))))
    if common.alpn_protocols:
        context.set_alpn_protocols(list(common.alpn_protocols))
    validation = common.validation_context
    if validation is not None and validation.trusted_ca is not None:
        _trust(context, secrets.authorities(validation.trusted_ca))


# What TLS 1.0 and 1.1 have that offers forward secrecy.
_OLD_CIPHER_SUITES = (
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
)


def _trust(context: ssl.SSLContext, authorities: Authorities) -> None:
    # An authority that is trusted is the end of a chain, also if another has signed its certificate (as in Envoy).
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if authorities.system:
        context.set_default_verify_paths()
    data = certificates.to_pem(authorities.certificates)
    if authorities.crls:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        data += revocation.to_pem(authorities.crls)
    # Revocation lists, OpenSSL's interface in Python takes from files only.
    if data:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            context.load_verify_locations(file.name)


def _show(context: ssl.SSLContext, pair: KeyPair) -> None:
    show_in(context, Credentials(pair.key, Issued(pair.chain, ())))


def _one_of_each_kind(pairs: Iterable[KeyPair]) -> list[KeyPair]:
    """The first of each kind of key: OpenSSL shows the one that the client can verify."""
    chosen: dict[type, KeyPair] = {}
    for pair in pairs:
        chosen.setdefault(type(pair.key), pair)
    return list(chosen.values())


def _choose_by_name(
    context: ssl.SSLContext, pairs: list[KeyPair], made: Callable[[Iterable[KeyPair]], ssl.SSLContext]
) -> None:
    """Have a context show those of `pairs` that are for the server which the client asks for.

    As in Envoy, a certificate for that very name goes before one for a wildcard, and where there is neither, the first
    certificates are shown.
    """
    contexts: dict[tuple[int, ...], ssl.SSLContext] = {}
    by_name: dict[str, ssl.SSLContext] = {}
    all_names = [_server_names(pair.leaf) for pair in pairs]
    for name in dict.fromkeys(name for names in all_names for name in names):
        those = tuple(place for place, names in enumerate(all_names) if name in names)
        if those not in contexts:
            contexts[those] = made(_one_of_each_kind(pairs[place] for place in those))
        by_name[name] = contexts[those]

    def asked(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        _note_server_name(connection, name, context)
        server = (name or "").lower()
        found = by_name.get(server) or by_name.get("*." + server.partition(".")[2])
        if found is not None:
            connection.context = found

    context.sni_callback = asked


def _server_names(certificate: x509.Certificate) -> Sequence[str]:
    """The DNS names that a certificate is for; its common name where there are none, as in Envoy."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        found = []
    common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [name.lower() for name in found or (str(one.value) for one in common_names)]
