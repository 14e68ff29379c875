"""Handshakes at a gateway: both proxies let in the same clients, by the same filter chain, and refuse the others.

How a refusal shows is left out: Envoy sends alerts, some of which OpenSSL would not.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import trio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshproxy.snapshot import Snapshot, SocketAddress

from ..certificates import DAY, NOW, Ca, Pair
from ..envoy.binary import needs_envoy
from ..mesh.support import snapshot_of
from .referee import both

CA, OTHER = Ca(), Ca("other root")
GOOD, REVOKED = CA.issue("good.test", "spiffe://cluster.local/ns/a/sa/b"), CA.issue("good.test")
SHOWN = {
    "": None,
    "good": GOOD,
    "other name": CA.issue("bad.test"),
    "other authority": OTHER.issue("good.test"),
    "expired": CA.issue("good.test", expires=NOW - DAY),
    "revoked": REVOKED,
    "rsa": CA.issue("good.test", key="rsa"),
}
SECRETS = {
    "simple": CA.issue("a.test", "b.test"),
    "rsa": CA.issue("a.test", key="rsa"),
    "ecdsa": CA.issue("a.test"),
    "wild": CA.issue("*.wild.test"),
}


def der(pair: Pair) -> bytes:
    return pair.certificate.public_bytes(Encoding.DER)


def spki(pair: Pair) -> str:
    key = pair.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def secret(name: str, pair: Pair, crl: str = "") -> str:
    texts = {"tls.crt": pair.chain, "tls.key": pair.key, "ca.crt": CA.pem} | ({"ca.crl": crl} if crl else {})
    data = ", ".join(f"{key}: {base64.b64encode(text.encode()).decode()}" for key, text in texts.items())
    return f"{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: istio-system}}, data: {{{data}}}}}"


def gateway(number: int, *servers: tuple[str, str]) -> str:
    """A Gateway on a port of its own; each of its servers has hosts and `tls`."""
    listed = "".join(
        f"\n  - {{port: {{number: {number}, name: s{place}, protocol: HTTPS}}, hosts: [{hosts}], tls: {{{tls}}}}}"
        for place, (hosts, tls) in enumerate(servers)
    )
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: g{number}, namespace: istio-system}}
spec:
  servers:{listed}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v{number}}}
spec:
  hosts: ['*']
  gateways: [istio-system/g{number}]
  http: [{{directResponse: {{status: 200, body: {{string: 'served'}}}}}}]
"""


MUTUAL = "mode: MUTUAL, credentialName: simple"
GATEWAYS = {
    "simple": gateway(1000, ("a.test", "mode: SIMPLE, credentialName: simple")),
    "mutual": gateway(1001, ("a.test", MUTUAL)),
    "optional": gateway(1002, ("a.test", "mode: OPTIONAL_MUTUAL, credentialName: simple")),
    "names": gateway(1003, ("a.test", f"{MUTUAL}, subjectAltNames: [good.test]")),
    "uri": gateway(1004, ("a.test", f"{MUTUAL}, subjectAltNames: ['spiffe://cluster.local/ns/a/sa/b']")),
    "spki": gateway(1005, ("a.test", f"{MUTUAL}, verifyCertificateSpki: ['{spki(GOOD)}']")),
    "hash": gateway(1006, ("a.test", f"{MUTUAL}, verifyCertificateHash: ['{hashlib.sha256(der(GOOD)).hexdigest()}']")),
    "crl": gateway(1007, ("a.test", "mode: MUTUAL, credentialName: crl")),
    "versions": gateway(1008, ("a.test", "mode: SIMPLE, credentialName: simple, minProtocolVersion: TLSV1_3")),
    "old": gateway(1009, ("a.test", "mode: SIMPLE, credentialName: simple, maxProtocolVersion: TLSV1_2")),
    "suites": gateway(
        1010,
        (
            "a.test",
            "mode: SIMPLE, credentialName: simple, maxProtocolVersion: TLSV1_2, "
            "cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384]",
        ),
    ),
    "both keys": gateway(1011, ("a.test", "mode: SIMPLE, credentialNames: [rsa, ecdsa]")),
    "several": gateway(
        1012,
        ("a.test", "mode: SIMPLE, credentialName: ecdsa"),
        ("'*.wild.test'", "mode: SIMPLE, credentialName: wild"),
        ("b.test", MUTUAL),
    ),
    "all": gateway(1013, ("'*'", "mode: SIMPLE, credentialName: simple")),
}


@dataclass(frozen=True)
class Client:
    """A client, and the server that it asks for; `shows` is one of `SHOWN`."""

    server: str | None = "a.test"
    shows: str = ""
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    suites: str = ""


def handshakes() -> Iterator[tuple[str, Client]]:
    for name in GATEWAYS:
        for shows in SHOWN:
            yield name, Client(shows=shows)
        for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            yield name, Client(oldest=version, newest=version)
            if version != ssl.TLSVersion.TLSv1_1:
                yield name, Client(oldest=version, newest=version, shows="good")
        # Of several certificates Envoy shows the first to a client that asks in capitals, as if they were for another.
        capitals = ["A.TEST"] if name != "both keys" else []
        for server in ("b.test", "x.wild.test", "y.x.wild.test", "wild.test", "nobody.test", None, *capitals):
            yield name, Client(server)
            yield name, Client(server, shows="good")
        for suites in ("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256", "AES128-GCM-SHA256"):
            yield name, Client(newest=ssl.TLSVersion.TLSv1_2, suites=suites)


@dataclass(frozen=True)
class Outcome:
    """What became of a client: the certificate that it was shown, and what was spoken; or nothing came of it."""

    certificate: str = "none"
    version: str | None = None
    suite: str = ""
    status: bytes = b""


def configured() -> Snapshot:
    secrets = [secret(name, pair) for name, pair in SECRETS.items()]
    whole = snapshot_of(*secrets, secret("crl", SECRETS["simple"], CA.revoke(REVOKED)), *GATEWAYS.values())
    listeners = (
        replace(one, name=name, address=SocketAddress("127.0.0.1", 0))
        for name, one in zip(GATEWAYS, whole.listeners, strict=True)
    )
    return replace(whole, listeners=tuple(listeners))


async def outcome(proxy: SocketAddress, client: Client, folder: Path) -> Outcome:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(client.suites or "DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = client.oldest, client.newest
    pair = SHOWN[client.shows]
    if pair is not None:
        context.load_cert_chain(*pair.write(folder, client.shows.replace(" ", "-")))
    raw = await trio.open_tcp_stream(proxy.host, proxy.port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=client.server)
    answer = b""
    try:
        with trio.fail_after(10):
            greeted = False
            while b"\r\n\r\n" not in answer:
                try:
                    if not greeted:
                        tls.do_handshake()
                        tls.write(b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n" % (client.server or "a.test").encode())
                        greeted = True
                    answer += tls.read(65536)
                except ssl.SSLWantReadError:
                    await raw.send_all(outgoing.read())
                    data = await raw.receive_some(65536)
                    if not data:
                        break
                    incoming.write(data)
    except (ssl.SSLError, trio.BrokenResourceError, OSError):
        pass
    finally:
        await trio.aclose_forcefully(raw)
    if not answer:
        return Outcome()
    shown = tls.getpeercert(True)
    name = next((name for name, one in SECRETS.items() if der(one) == shown), "another")
    # Which suite of several is taken is the library's taste, where nobody has named any.
    suite = tls.cipher()
    return Outcome(name, tls.version(), suite[0] if suite and client.suites else "", answer[9:12])


@needs_envoy
def test_the_same_clients_are_let_in(tmp_path: Path) -> None:
    cases = list(dict.fromkeys(handshakes()))
    found: dict[tuple[str, Client], list[Outcome]] = {}

    async def carry_out() -> None:
        async with both([configured()], tmp_path) as referee:
            for name, client in cases:
                sides = (referee.envoy[name], referee.ours[name])
                found[name, client] = [await outcome(side, client, tmp_path) for side in sides]

    trio.run(carry_out)
    different = [f"{case}: {envoy} {ours}" for case, (envoy, ours) in found.items() if envoy != ours]
    assert not different, "\n".join(different)
    assert {envoy.status for envoy, _ in found.values()} == {b"", b"200"}
