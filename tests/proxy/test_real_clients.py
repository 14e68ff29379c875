"""The clients that people have: curl, httpx, requests, ab and wrk, through the gateway."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import requests
import trio

from .support import OK, Gateway, Peer, answers, backend, gateway, snapshot

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def url(proxy: Gateway, path: str = "/") -> str:
    return f"http://{proxy.address}{path}"


async def run(*command: str) -> str:
    finished = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT)
    return finished.stdout.decode()


async def echoes(connection: Peer) -> None:
    """Answer with the method, and a body with its own bytes."""
    while True:
        message = await connection.message()
        method = message.split(b" ")[0]
        head, _, body = message.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head:
            body = body.split(b"\r\n")[1]
        text = b"" if method == b"HEAD" else method + b" " + body
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))


@needs("curl")
async def test_curl_gets_posts_and_keeps_its_connection() -> None:
    async with backend(echoes) as server, gateway(snapshot(server)) as proxy:
        assert await run("curl", "-s", url(proxy)) == "GET "
        assert await run("curl", "-s", "-d", "a=b", url(proxy)) == "POST a=b"
        assert "200 OK" in await run("curl", "-s", "-I", url(proxy))
        said = await run("curl", "-sv", url(proxy, "/1"), url(proxy, "/2"))
        assert "Re-using existing" in said or "re-using" in said.lower() or "reusing" in said.lower()


@needs("curl")
async def test_curl_uses_it_as_a_proxy() -> None:
    async with backend(echoes) as server, gateway(snapshot(server)) as proxy:
        assert await run("curl", "-s", "-x", url(proxy), "http://any.test/path") == "GET "
        assert server.received[0].startswith(b"GET /path HTTP/1.1\r\nhost: any.test\r\n")


@needs("curl")
async def test_curl_uploads_after_100_continue(tmp_path: Path) -> None:
    async def script(connection: Peer) -> None:
        head = await connection.read_until(b"\r\n\r\n")
        assert b"expect: 100-continue" in head
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert len(await connection.read(2_000_000)) == 2_000_000
        await connection.send(OK)
        await connection.ended()

    upload = tmp_path / "upload"
    upload.write_bytes(bytes(2_000_000))
    async with backend(script) as server, gateway(snapshot(server)) as proxy:
        said = await run("curl", "-sv", "--expect100-timeout", "60", "-T", str(upload), url(proxy, "/up"))
        assert "100 Continue" in said
        assert said.endswith("ok")


async def test_httpx_speaks_with_it() -> None:
    async with backend(echoes) as server, gateway(snapshot(server)) as proxy:
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(url(proxy))).text == "GET "
            assert (await client.post(url(proxy), content=b"abc")).text == "POST abc"
            assert (await client.head(url(proxy))).status_code == 200

            async def chunks() -> AsyncIterator[bytes]:
                yield b"abc"

            assert (await client.put(url(proxy), content=chunks())).text == "PUT abc"
        assert len(proxy.worker.metrics.listeners) == 1
        assert proxy.worker.metrics.listeners["http"].connections == 1


async def test_requests_speaks_with_it() -> None:
    def speak(base: str) -> list[str]:
        with requests.Session() as session:
            session.trust_env = False
            assert session.head(base).status_code == 200
            return [session.get(base).text, session.post(base, data=b"abc").text]

    async with backend(echoes) as server, gateway(snapshot(server)) as proxy:
        assert await trio.to_thread.run_sync(partial(speak, url(proxy))) == ["GET ", "POST abc"]
        assert proxy.worker.metrics.listeners["http"].connections == 1


@needs("ab")
@pytest.mark.parametrize("options", [["-k"], []], ids=["kept alive", "one by one"])
async def test_ab_loses_no_request(options: list[str]) -> None:
    async with backend(answers(OK)) as server, gateway(snapshot(server)) as proxy:
        said = await run("ab", "-q", *options, "-n", "300", "-c", "10", url(proxy))
        assert "Complete requests:      300" in said
        assert "Failed requests:        0" in said
        assert "Non-2xx" not in said
        assert ("Keep-Alive requests:    300" in said) is bool(options)
        await proxy.logged(300)


@needs("wrk")
async def test_wrk_meets_no_error() -> None:
    async with backend(answers(OK)) as server, gateway(snapshot(server)) as proxy:
        said = await run("wrk", "-t", "1", "-c", "10", "-d", "1s", url(proxy))
        assert "Socket errors" not in said
        assert "Non-2xx" not in said
        await proxy.settled()
        assert {line.status for line in proxy.log_lines} <= {200, 0}
