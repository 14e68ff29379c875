"""TLS to upstreams: which server is asked for, which certificates will do, and what a client gets where there is none.

What a backend has seen of the handshake is compared as well: the server that was asked for, and who asked.
"""

from __future__ import annotations

from dataclasses import replace

from meshproxy.snapshot import (
    FileSource,
    Secret,
    Snapshot,
    SocketAddress,
    TlsCertificate,
    TrustedCa,
    UpstreamTlsContext,
)

from ...mesh.support import GATEWAY, service_entry, snapshot_of, virtual_service
from ..exchanges import (
    BACKENDS,
    SECURE,
    Answer,
    Backends,
    Case,
    Configuration,
    Exchange,
    exchange,
    get,
    head,
)
from ..secure import WORKLOAD, material


def to(backend: str, settings: str, *documents: str, rules: str = "") -> Configuration:
    """A gateway that sends everything to a backend, by TLS with these settings."""
    rule = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: r}}
spec: {{host: {backend}, trafficPolicy: {{tls: {{{settings}}}}}}}
"""
    routes = rules or f"- route: [{{destination: {{host: {backend}}}}}]\n  retries: {{attempts: 0}}"

    def configured(backends: Backends) -> Snapshot:
        address = backends[backend]
        assert isinstance(address, SocketAddress)
        service = service_entry(backend, port=address.port)
        return snapshot_of(GATEWAY, service, virtual_service(routes, hosts="'*'"), rule, *documents)

    return configured


def case(name: str, configuration: Configuration, *exchanges: Exchange) -> Case:
    return Case(name, configuration, exchanges, backends=(*BACKENDS, *SECURE))


ONE = (get("/"),)
HOSTS = tuple(
    get("/", host=host)
    for host in (
        "example.com",
        "example.com:8080",
        "EXAMPLE.com",
        "x.wild.test",
        "x.y.wild.test",
        "wild.test",
        "other.test",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.2",
    )
)
PKI = material()


def _broken(name: str, *pieces: bytes, end: str = "close", method: str = "GET") -> Exchange:
    return exchange(name, head("/", method=method), answer=Answer(pieces, end))  # type: ignore[arg-type]


_OK = b"HTTP/1.1 200 OK\r\n"

BODIES = (
    exchange("upload", head("/", "content-length: 70000", method="POST") + b"x" * 70000),
    exchange("chunks", head("/", "transfer-encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n"),
    _broken("a body until the end", _OK + b"\r\nhello"),
    _broken("a body until the end, in pieces", _OK + b"\r\nhel", b"lo"),
    _broken("a body until the end, cut", _OK + b"\r\nhello", end="cut"),
    _broken("a body that is cut off", _OK + b"content-length: 9\r\n\r\nhello", end="cut"),
    _broken("chunks that are cut off", _OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", end="cut"),
    _broken("a whole body, then cut", _OK + b"content-length: 5\r\n\r\nhello", end="cut"),
    _broken("no answer"),
    _broken("no answer, cut", end="cut"),
    _broken("a head that is cut off", _OK, end="cut"),
    _broken("a large body", _OK + b"content-length: 300000\r\n\r\n" + b"x" * 300000, end="keep"),
    _broken("informational", b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\n" + _OK + b"content-length: 0\r\n\r\n", end="keep"),
    exchange(
        "an upgrade",
        head("/", "connection: upgrade", "upgrade: websocket"),
        b"ping",
        answer=Answer((b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",)),
        tunnel=4,
    ),
)

RETRIES = "- route: [{destination: {host: strange}}]\n  retries: {attempts: 2, retryOn: connect-failure}"
REWRITES = "- route: [{destination: {host: secure}}]\n  rewrite: {authority: x.wild.test}\n  retries: {attempts: 0}"
SETS_HOST = """\
- route: [{destination: {host: secure}, headers: {request: {set: {Host: x.wild.test}}}}]
  retries: {attempts: 0}"""


def _of_the_mesh(backend: str, shown: str = "client", names: tuple[str, ...] = ()) -> Configuration:
    """ISTIO_MUTUAL, with the workload's identity out of files, because Envoy has no agent here."""
    listed = f", subjectAltNames: [{', '.join(names)}]" if names else ""

    def configured(backends: Backends) -> Snapshot:
        snapshot = to(backend, "mode: ISTIO_MUTUAL" + listed)(backends)
        folder = PKI.folder
        pair = TlsCertificate(FileSource(f"{folder}/{shown}.crt"), FileSource(f"{folder}/{shown}.key"))
        own = (
            Secret(f"own-{shown}", pair),
            Secret("own-roots", TrustedCa(FileSource(f"{folder}/ca.pem"))),
        )

        def renamed(tls: UpstreamTlsContext | None) -> UpstreamTlsContext | None:
            if tls is None:
                return None
            validation = tls.common.validation_context
            assert validation is not None
            validation = replace(validation, trusted_ca="own-roots", trust_domains=())
            return replace(
                tls, common=replace(tls.common, tls_certificates=(f"own-{shown}",), validation_context=validation)
            )

        clusters = tuple(replace(one, tls=renamed(one.tls)) for one in snapshot.clusters)
        return replace(snapshot, clusters=clusters, secrets=own)

    return configured


CASES = (
    case("TLS by authority", to("secure", PKI.settings()), *HOSTS, *BODIES),
    case("TLS by a rewritten authority", to("secure", PKI.settings(), rules=REWRITES), *ONE),
    case("TLS by a Host that is set", to("secure", PKI.settings(), rules=SETS_HOST), *ONE),
    case("TLS with sni", to("secure", PKI.settings("sni: some.test")), *HOSTS[:1], *HOSTS[6:8]),
    *(
        case(f"TLS with subjectAltNames {name}", to("secure", PKI.settings(f"subjectAltNames: ['{name}']")), *ONE)
        for name in (
            "example.com",
            "EXAMPLE.COM",
            "x.wild.test",
            "*.wild.test",
            "x.y.wild.test",
            "127.0.0.1",
            "spiffe://cluster.local/ns/default/sa/a",
            "spiffe://cluster.local/ns/default/sa/A",
            "nobody.test",
        )
    ),
    *(case(f"TLS with a certificate {kind}", to(kind, PKI.settings()), *ONE) for kind in ("strange", "expired")),
    case("TLS with a certificate that is revoked", to("revoked", PKI.settings(f"caCrl: {PKI.folder}/crl.pem")), *ONE),
    case("TLS with a revocation list", to("secure", PKI.settings(f"caCrl: {PKI.folder}/crl.pem")), *ONE),
    case("TLS that verifies nothing", to("strange", "mode: SIMPLE, insecureSkipVerify: true"), *HOSTS[:1], *HOSTS[6:8]),
    case("TLS with the machine's authorities", to("secure", "mode: SIMPLE"), *ONE),
    case("TLS to one who speaks none", to("a", PKI.settings()), *ONE),
    case("TLS to nobody with retries", to("strange", PKI.settings(), rules=RETRIES), *ONE),
    *(
        case(f"TLS to {backend} {told}", to(backend, settings), *ONE)
        for backend in ("mutual", "mutual12")
        for told, settings in (
            ("with a certificate", PKI.mutual()),
            ("without one", PKI.settings()),
            ("with a stranger's", PKI.mutual(shown="stranger")),
            (
                "and no verification",
                PKI.mutual("insecureSkipVerify: true").replace(f"caCertificates: {PKI.folder}/ca.pem, ", ""),
            ),
        )
    ),
    case("TLS of the mesh", _of_the_mesh("mutual"), *HOSTS[:1], *HOSTS[6:8]),
    case(
        "TLS of the mesh with a name", _of_the_mesh("mutual", names=("spiffe://cluster.local/ns/default/sa/a",)), *ONE
    ),
    case("TLS of the mesh with another's name", _of_the_mesh("mutual", names=(WORKLOAD,)), *ONE),
)
