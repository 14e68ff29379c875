"""The service behind the proxies: nginx where it is installed, else a small server on asyncio.

It answers at once, and never is what the load waits for: `/small` with a line, `/large/N` with N MB, `/upload` with a
line once it has read all of the request.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .cases import LARGE, MB, RESPONSES_MB, SMALL, UPLOAD
from .certificates import certified
from .processes import Launch, free_port, started, wait_until_answering

_ANSWER = "hello, this is a small answer of a service\n"

# nginx would answer an upload while it is still coming. Passed on to itself, it is read to its end first.
_NGINX = """
daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {folder}/origin.pid; error_log {folder}/origin.err;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; default_type text/plain; keepalive_requests 1000000000; client_max_body_size 0;
  client_body_buffer_size 2m; client_body_temp_path {folder}/origin-body; proxy_temp_path {folder}/origin-proxy;
  fastcgi_temp_path {folder}/origin-fastcgi; uwsgi_temp_path {folder}/origin-uwsgi;
  scgi_temp_path {folder}/origin-scgi;
  upstream read {{ server unix:{folder}/origin.sock; keepalive 512; }}
  server {{ listen unix:{folder}/origin.sock; return 200 "{answer}"; }}
  server {{
    {listen}
    {listen_secured} ssl_certificate {folder}/origin.crt; ssl_certificate_key {folder}/origin.key;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets off; ssl_session_cache off;
    location {large} {{ alias {folder}{large}; }}
    location {upload} {{
      proxy_pass http://read; proxy_http_version 1.1; proxy_pass_request_body off;
      proxy_set_header connection ""; proxy_set_header content-length "";
    }}
    location / {{ return 200 "{answer}"; }}
  }}
}}
"""


@dataclass(frozen=True)
class Origin:
    """A running origin: where it listens, each `ip:port`; by TLS at `secured`, with a certificate of `roots`."""

    endpoints: Sequence[str]
    secured: Sequence[str]
    roots: Path


def name() -> str:
    """What the origin is on this machine."""
    return "nginx" if shutil.which("nginx") else "asyncio"


@contextmanager
def origin(folder: Path, count: int = 2) -> Iterator[Origin]:
    """Run the origin on that many addresses of the loopback network; its files are in `folder`."""
    port, secured = free_port(), free_port()
    hosts = [f"127.0.{number // 250}.{number % 250 + 1}" for number in range(count)]
    roots = certified(folder)
    make = _nginx if name() == "nginx" else _asyncio
    launch = make(folder, hosts, port, secured)
    log = folder / "origin.log"
    with started(launch, log) as process:
        wait_until_answering(process, port, SMALL, log)
        yield Origin([f"{host}:{port}" for host in hosts], [f"{host}:{secured}" for host in hosts], roots)


def _nginx(folder: Path, hosts: Sequence[str], port: int, secured: int) -> Launch:
    large = folder / LARGE.strip("/")
    large.mkdir()
    for size in RESPONSES_MB:
        with (large / str(size)).open("wb") as file:
            file.truncate(size * MB)
    folder.chmod(0o755)  # nginx's workers are not us
    config = folder / "origin.conf"
    answer = _ANSWER.replace("\n", "\\n")
    config.write_text(
        _NGINX.format(
            folder=folder,
            listen=" ".join(f"listen {host}:{port} backlog=4096;" for host in hosts),
            listen_secured=" ".join(f"listen {host}:{secured} ssl backlog=4096;" for host in hosts),
            answer=answer,
            large=LARGE,
            upload=UPLOAD,
        )
    )
    return Launch(["nginx", "-c", config, "-p", folder, "-e", folder / "origin.err"])


def _asyncio(folder: Path, hosts: Sequence[str], port: int, secured: int) -> Launch:
    command = [sys.executable, "-m", "bench.origin", str(folder), str(port), str(secured), *hosts]
    return Launch(command, {"PYTHONPATH": str(Path(__file__).parents[1])})


_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class _Answering(asyncio.Protocol):
    """Answers what proxies make of our load: requests without a body, or with a Content-Length."""

    _small = _response(_ANSWER.encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""
        self._path = b""
        self._body_left = 0

    def data_received(self, data: bytes) -> None:
        if self._body_left:
            taken = min(self._body_left, len(data))
            self._body_left -= taken
            data = data[taken:]
            if self._body_left:
                return
            self._answer()
        self._buffer += data
        while self._read_request():
            self._answer()

    def _read_request(self) -> bool:
        """Take one request from the buffer; False where it has not all come yet."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        self._path = head.split(b" ", 2)[1]
        length = _LENGTH.search(head + b"\r\n")
        body = int(length[1]) if length else 0
        self._buffer = rest[body:]
        self._body_left = max(body - len(rest), 0)
        return not self._body_left

    def _answer(self) -> None:
        large = self._path.startswith(f"{LARGE}/".encode())
        self._transport.write(_large_answer(int(self._path.rpartition(b"/")[2])) if large else self._small)


@cache
def _large_answer(size_mb: int) -> bytes:
    return _response(bytes(size_mb * MB))


async def _serve(folder: Path, port: int, secured: int, hosts: Sequence[str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "origin.crt", folder / "origin.key")
    context.num_tickets = 0
    create = asyncio.get_running_loop().create_server
    plain = await create(_Answering, hosts, port, backlog=4096)
    by_tls = await create(_Answering, hosts, secured, backlog=4096, ssl=context)
    await asyncio.gather(plain.serve_forever(), by_tls.serve_forever())


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
