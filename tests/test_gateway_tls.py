"""The examples in docs/tls.md do what is said of them, between real sockets."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding

from meshproxy.snapshot import SocketAddress

from .certificates import Ca, Pair
from .mesh.support import problems_of, snapshot_of, virtual_service
from .proxy.support import Gateway, gateway

DOCS = (Path(__file__).parents[1] / "docs" / "tls.md").read_text()
CA, CLIENTS = Ca(), Ca("clients")
ROUTES = virtual_service("- directResponse: {status: 200, body: {string: here}}", hosts="'*'").replace(
    "[gw]", "[istio-system/ingress]"
)


def example(heading: str) -> str:
    """The YAML below a heading."""
    found = re.search(rf"^## {heading}$.*?```yaml\n(.*?)```", DOCS, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1]


def secret(name: str, pair: Pair) -> str:
    texts = {"tls.crt": pair.chain, "tls.key": pair.key, "ca.crt": CLIENTS.pem}
    data = ", ".join('{}: "{}"'.format(key, text.replace("\n", "\\n")) for key, text in texts.items())
    return (
        f"{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: istio-system}}, stringData: {{{data}}}}}"
    )


@asynccontextmanager
async def running(*documents: str) -> AsyncIterator[dict[int, SocketAddress]]:
    """A gateway with these documents; where its ports are."""
    assert problems_of(*documents) == []
    ports = (80, 443)
    config = snapshot_of(*documents, publish={port: SocketAddress("127.0.0.1", 0) for port in ports})
    async with gateway(config) as proxy:
        yield {port: _address(proxy, port) for port in ports if f"0.0.0.0_{port}" in proxy.worker.addresses}


def _address(proxy: Gateway, port: int) -> SocketAddress:
    return proxy.worker.addresses[f"0.0.0.0_{port}"]


async def fetched(
    address: SocketAddress, server: str, folder: Path, shown: Pair | None = None, **options: ssl.TLSVersion
) -> tuple[bytes, bytes]:
    """The body of a response, and the certificate that the server has shown."""
    context = CA.client_context(shown, folder)
    for name, value in options.items():
        setattr(context, name, value)
    with trio.fail_after(10):
        raw = await trio.open_tcp_stream(address.host, address.port)
        stream = trio.SSLStream(raw, context, server_hostname=server, https_compatible=True)
        try:
            await stream.send_all(f"GET / HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n".encode())
            response = b""
            while data := await stream.receive_some():
                response += data
            return response.partition(b"\r\n\r\n")[2], stream.getpeercert(True)
        finally:
            await trio.aclose_forcefully(stream)


async def test_secrets(tmp_path: Path) -> None:
    shop, admin = CA.issue("shop.example.com"), CA.issue("admin.example.com")
    async with running(example("Secrets"), ROUTES, secret("shop", shop), secret("admin", admin)) as ports:
        body, shown = await fetched(ports[443], "shop.example.com", tmp_path)
        assert (body, shown) == (b"here", shop.certificate.public_bytes(Encoding.DER))

        operator = CLIENTS.issue("operator.example.com")
        body, shown = await fetched(ports[443], "admin.example.com", tmp_path, operator)
        assert (body, shown) == (b"here", admin.certificate.public_bytes(Encoding.DER))
        for other in (None, CLIENTS.issue("somebody.example.com"), CA.issue("operator.example.com")):
            with pytest.raises(trio.BrokenResourceError):
                await fetched(ports[443], "admin.example.com", tmp_path, other)

        with trio.fail_after(10):
            plain = await trio.open_tcp_stream(ports[80].host, ports[80].port)
            await plain.send_all(b"GET /a?b HTTP/1.1\r\nhost: shop.example.com\r\n\r\n")
            assert b"location: https://shop.example.com/a?b\r\n" in await plain.receive_some()
            await plain.aclose()


async def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    certs = tmp_path / "certs"
    certs.mkdir()
    pairs = {"rsa": CA.issue("any.example.com", key="rsa"), "ecdsa": CA.issue("any.example.com")}
    for name, pair in pairs.items():
        pair.write(certs, name)
    revoked = CLIENTS.issue("gone.example.com")
    (certs / "clients.crt").write_text(CLIENTS.pem)
    (certs / "revoked.pem").write_text(CLIENTS.revoke(revoked))
    async with running(example("Files"), ROUTES) as ports:
        assert (await fetched(ports[443], "any.example.com", tmp_path))[0] == b"here"
        assert (await fetched(ports[443], "any.example.com", tmp_path, CLIENTS.issue("c.example.com")))[0] == b"here"
        with pytest.raises(trio.BrokenResourceError):
            await fetched(ports[443], "any.example.com", tmp_path, revoked)
        with pytest.raises(trio.BrokenResourceError):
            await fetched(ports[443], "any.example.com", tmp_path, maximum_version=ssl.TLSVersion.TLSv1_2)
