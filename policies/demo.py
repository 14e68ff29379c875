"""Runs one of the example meshes here: stand-ins for its services, its proxies, and what to try with curl.

    python policies/demo.py [MESH]

Each folder beside this file is a mesh; its `demo.toml` names what is made first, the stand-ins, the proxies to run, and
what to try. Ctrl-C ends all of it.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from meshproxy.identity import SpiffeId, certificates, keys

POLICIES = Path(__file__).parent
ROOT = POLICIES.parent
_FIRST_ADMIN_PORT = 15000
_READY_S = 10.0

console = Console(highlight=False)


def main() -> None:
    """Start everything, tell what to try, and wait for Ctrl-C."""
    meshes = sorted(path.parent.name for path in POLICIES.glob("*/demo.toml"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mesh", nargs="?", default="quickstart", choices=meshes)
    mesh = parser.parse_args().mesh
    demo = tomllib.loads((POLICIES / mesh / "demo.toml").read_text())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for step in demo.get("prepare", ()):
            _prepare(**step)
        with ExitStack() as started:
            for backend in demo["backends"]:
                started.enter_context(_backend(**backend))
            if "certificates" in demo:
                files = started.enter_context(tempfile.TemporaryDirectory(prefix="meshproxy-demo-"))
                write_certificates(demo["certificates"], Path(files))
                demo = _with_files(demo, files)
            commands = [_command(mesh, number, words) for number, words in enumerate(demo["proxies"])]
            proxies = [started.enter_context(_proxy(command)) for command in commands]
            for number, proxy in enumerate(proxies):
                _wait_until_ready(proxy, _admin(number))
            _tell(demo, commands)
            sys.exit(proxies[0].wait())
    except KeyboardInterrupt:
        console.print("\nended")


def write_certificates(wanted: list[dict[str, Any]], files: Path) -> None:
    """A certificate and its key for each folder below `files`, and `ca.crt`, which is to be trusted."""
    key, now = keys.generate(), datetime.now(UTC)
    root = certificates.root_certificate(key, "demo", now)
    (files / "ca.crt").write_bytes(certificates.to_pem([root]))
    for one in wanted:
        own, folder = keys.generate(), files / one["folder"].lstrip("/")
        folder.mkdir(parents=True)
        identity = SpiffeId("demo", "/server")
        shown = certificates.workload_certificate(own.public_key(), identity, root, key, now, names=one["names"])
        (folder / "tls.crt").write_bytes(certificates.to_pem([shown]))
        (folder / "tls.key").write_bytes(keys.to_pem(own))


def _with_files(demo: dict[str, Any], files: str) -> dict[str, Any]:
    """A demo with the folder of its certificates in its commands."""
    proxies = [[word.replace("{files}", files) for word in words] for words in demo["proxies"]]
    examples = [one | {"command": one["command"].replace("{files}", files)} for one in demo["examples"]]
    return demo | {"proxies": proxies, "examples": examples}


def _admin(number: int) -> str:
    return f"127.0.0.1:{_FIRST_ADMIN_PORT + 10 * number}"


def _command(mesh: str, number: int, words: list[str]) -> list[str]:
    """The command of a demo's proxy: what its `demo.toml` says, with the mesh's files and admin pages of its own."""
    subcommand, *options = words
    return ["meshproxy", subcommand, "-f", f"policies/{mesh}", *options, "--admin", _admin(number)]


def _prepare(command: list[str], to: str = "", unless: str = "") -> None:
    """Have a command of meshproxy make what a demo needs, `unless` the file is there; its output goes `to` a file."""
    if unless and (ROOT / unless).exists():
        return
    done = subprocess.run([sys.executable, "-m", "meshproxy", *command], cwd=ROOT, stdout=subprocess.PIPE)
    if done.returncode:
        _fail(f"meshproxy {command[0]} {command[1]} failed; what it said stands above")
    if to:
        (ROOT / to).write_bytes(done.stdout)


class Backend(ThreadingHTTPServer):
    """A stand-in for a service. A context manager.

    It answers every request with what it received, or with what is in `file`; 403 if it `wants` a header that is not
    there.
    """

    daemon_threads = True

    def __init__(self, name: str, port: int, file: str = "", wants: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Echo)
        self.name = name
        self.file = ROOT / file if file else None
        self.wants = wants

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves early is nothing to tell of."""

    def __enter__(self) -> Backend:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Backend

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = "".join(f"    {name}: {value}\n" for name, value in self.headers.items())
        body = f"{self.server.name} received\n  {self.command} {self.path}\n{headers}".encode()
        status = 200
        if self.server.wants and self.server.wants not in self.headers:
            status, body = 403, f"{self.server.name}: no {self.server.wants}, no entry\n".encode()
        elif self.server.file is not None:
            body = self.server.file.read_bytes()
        self.send_response(status)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _answer

    def log_message(self, format: str, *arguments: Any) -> None:
        """The gateway's access log tells enough."""


def _backend(name: str, port: int, **more: str) -> Backend:
    try:
        return Backend(name, port, **more)
    except OSError as error:
        _fail(f"the stand-in {name!r} cannot listen on 127.0.0.1:{port}: {error.strerror}")


@contextmanager
def _proxy(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A proxy as a process, drained in the end. In a session of its own: Ctrl-C reaches it through us, once."""
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(proxy: subprocess.Popen[bytes], admin: str) -> None:
    give_up = time.monotonic() + _READY_S
    while time.monotonic() < give_up and proxy.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{admin}/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    _fail("a proxy did not start; what it said stands above")


def _tell(demo: dict[str, Any], commands: list[list[str]]) -> None:
    table = Table(title="Try in another terminal", title_justify="left", show_lines=True, expand=True)
    table.add_column("Command", overflow="fold", ratio=1)
    table.add_column("What it shows", ratio=1)
    for example in demo["examples"]:
        table.add_row(f"[bold cyan]{example['command']}[/]", example["shows"])
    table.add_row(f"[bold cyan]curl -s {_admin(0)}/clusters[/]", "Every endpoint: connections, pool, requests.")
    for command in commands:
        console.print(f"[green]running[/] {' '.join(command)}", soft_wrap=True)
    console.print(table)
    console.print("A line a request follows. Ctrl-C ends everything.")


def _fail(message: str) -> NoReturn:
    console.print(f"[red]{message}[/]")
    sys.exit(1)


if __name__ == "__main__":
    main()
