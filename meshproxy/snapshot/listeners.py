"""Listeners, and how they speak HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .access import ExtAuthz, JwtAuthentication, RbacFilter
from .routes import Buffer, LocalRateLimit, RouteConfiguration
from .tls import DownstreamTlsContext
from .values import Origin, SocketAddress

ForwardClientCert = Literal["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"]
"""What becomes of x-forwarded-client-cert, which tells servers of clients' certificates (Envoy's
`ForwardClientCertDetails`): it is taken away; passed on; passed on with an element of our own behind it; or replaced by
one. All but the last do so for clients that have shown a certificate, and take it away for all others."""


@dataclass(frozen=True, slots=True)
class ClientCertDetails:
    """What an element of x-forwarded-client-cert tells, besides who received the certificate and its SHA-256 sum."""

    subject: bool = False
    cert: bool = False
    uri: bool = False
    dns: bool = False


@dataclass(frozen=True, slots=True)
class HttpConnectionManager:
    """How a listener speaks HTTP. Defaults are those that Istio gives Envoy at a gateway.

    `use_remote_address`: the listener is the edge of the mesh. It trusts no request's word on where it comes from:
    it writes x-forwarded-proto, x-envoy-external-address and x-request-id itself, adds the client's address to
    x-forwarded-for, and takes away what only the mesh may say of a request. Otherwise it stands inside the mesh:
    x-forwarded-for and x-envoy-external-address pass untouched, x-forwarded-proto and x-request-id are added where
    they are missing. `forward_client_cert` says what becomes of x-forwarded-client-cert, and `client_cert_details` what
    an element of it tells. `ext_authz`, `jwt_authn` and then each of `rbac` decide about a request before it goes to
    its route, the last two also if there is none. `rate_limit` and `buffer` hold where neither the virtual host nor the
    route has one; the limit also for requests that have no route.
    """

    route_config: RouteConfiguration
    server_name: str = "meshproxy"
    use_remote_address: bool = True
    max_request_headers_kb: int = 60
    max_headers_count: int = 100
    request_headers_timeout_s: float = 60.0
    idle_timeout_s: float = 3600.0
    ext_authz: ExtAuthz | None = None
    jwt_authn: JwtAuthentication | None = None
    rbac: tuple[RbacFilter, ...] = ()
    rate_limit: LocalRateLimit | None = None
    buffer: Buffer | None = None
    forward_client_cert: ForwardClientCert = "SANITIZE"
    client_cert_details: ClientCertDetails = ClientCertDetails()


TransportProtocol = Literal["", "raw_buffer", "tls"]


@dataclass(frozen=True, slots=True)
class FilterChainMatch:
    """The connections that a filter chain is for, as their first bytes tell; an empty condition always holds.

    `server_names` are those that a TLS client asks for (SNI), `*.suffix` for any below it, in lower case.
    `transport_protocol` is whether it speaks TLS at all; one of `application_protocols` is among those that it offers
    (ALPN). Which chain of several that match is taken, is decided in this order: the most specific server name first,
    then the transport protocol, then the application protocols (Envoy's `FilterChainMatch`).
    """

    server_names: tuple[str, ...] = ()
    transport_protocol: TransportProtocol = ""
    application_protocols: tuple[str, ...] = ()


ANY_CONNECTION = FilterChainMatch()


@dataclass(frozen=True, slots=True)
class FilterChain:
    """What is made of some of a listener's connections. A client speaks TLS if and only if there is `tls`."""

    http: HttpConnectionManager
    match: FilterChainMatch = ANY_CONNECTION
    tls: DownstreamTlsContext | None = None
    name: str = ""
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Listener:
    """A place where connections are accepted, and what is made of them.

    No two chains have conditions in common that are equally specific. A connection that no chain is for is closed. A
    single chain that matches everything is taken without a look at what the client says.
    """

    name: str
    address: SocketAddress
    filter_chains: tuple[FilterChain, ...]
