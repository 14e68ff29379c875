"""The example meshes, run as they are by the command that people run, with stand-ins where their services should be."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.certificates import Ca
from tests.cli.support import running

POLICIES = Path(__file__).parents[1] / "policies"


class Recorder(BaseHTTPRequestHandler):
    """Answers with what it received, and with the port it received it on, as JSON."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        received = {
            "port": self.connection.getsockname()[1],
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(received).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def backend(port: int = 0) -> Iterator[int]:
    """A stand-in on a port, or on a free one."""
    with ThreadingHTTPServer(("127.0.0.1", port), Recorder) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def copied(mesh: str, ports: dict[int, int], tmp_path: Path) -> Path:
    """The files of a mesh, with ports of this machine in the place of those that they name."""
    folder = tmp_path / mesh
    folder.mkdir()
    for file in (POLICIES / mesh).glob("*.yaml"):
        text = file.read_text()
        for named, here in ports.items():
            text = re.sub(rf"\b{named}\b", str(here), text)
        (folder / file.name).write_text(text)
    return folder


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection is given meanwhile: those come from 32768 up."""
    while True:
        with contextlib.suppress(OSError), socket.create_server(("", port := random.randrange(20_000, 32_000))):
            return port


def mounted(folder: Path, name: str) -> Ca:
    """A certificate for `name` in a folder, as Secrets are mounted into pods; returns its authority."""
    ca = Ca()
    folder.mkdir(parents=True)
    ca.issue(name).write(folder)
    return ca


def get_by_tls(port: int, host: str, path: str, ca: Ca) -> dict[str, Any]:
    """What a stand-in has received of a GET by HTTPS."""
    context = ssl.create_default_context(cadata=ca.pem)
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        context.wrap_socket(connection, server_hostname=host) as secure,
    ):
        secure.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        with secure.makefile("rb") as answer:
            received: dict[str, Any] = json.loads(answer.read().partition(b"\r\n\r\n")[2])
    return received


def pipelined(port: int, path: str, count: int) -> Iterator[str]:
    """The bodies of the answers to as many requests, sent in batches over one connection."""
    batch = 100
    request = f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        for _ in range(count // batch):
            connection.sendall(request * batch)
            for _ in range(batch):
                head = list(iter(answers.readline, b"\r\n"))
                length = next(int(line.split()[1]) for line in head if line.startswith(b"content-length:"))
                yield answers.read(length).decode()


def test_a_prediction_passes_the_ingress_gateway_and_the_local_gateway(tmp_path: Path) -> None:
    local = free_port()
    with backend() as model:
        folder = copied("sklearn-iris", {8012: model, 8081: local}, tmp_path)
        ca = mounted(tmp_path / "etc/istio/ingressgateway-certs", "sklearn-iris.default.example.com")
        publish = ["--publish", "80:127.0.0.1:0", "--publish", f"443:127.0.0.1:{(https := free_port())}"]
        with running(tmp_path, "-f", folder, *publish, "--files-root", tmp_path) as gateway:
            ingress = next(place for place, port in enumerate(gateway.ports) if port not in (local, https))

            answer = gateway.get(
                "/v1/models/sklearn-iris:predict", port=ingress, host="sklearn-iris.default.example.com"
            )
            other = gateway.get("/", port=ingress, host="other.default.example.com")
            by_tls = get_by_tls(https, "sklearn-iris.default.example.com", "/v1/models/sklearn-iris:predict", ca)

            gateway.stop()
            log = gateway.access_log.read_text()

    assert by_tls["path"] == "/v1/models/sklearn-iris:predict"
    assert by_tls["headers"]["knative-serving-revision"] == "sklearn-iris-predictor-default-00001"
    received = json.loads(answer.body)
    assert received["port"] == model
    assert received["path"] == "/v1/models/sklearn-iris:predict"
    assert received["headers"]["host"] == "sklearn-iris-predictor-default.default.svc.cluster.local"
    assert received["headers"]["knative-serving-revision"] == "sklearn-iris-predictor-default-00001"
    assert received["headers"]["knative-serving-namespace"] == "default"
    assert log.count("sklearn-iris:predict") == 4
    assert other.status == 404


def test_istio_basics_route_by_path_and_header_and_split_by_weight(tmp_path: Path) -> None:
    with ExitStack() as backends:
        named = [9201, 9202, 9203, 9204]
        here = [backends.enter_context(backend()) for _ in named]
        service_a, service_b, reviews_v1, _ = here
        folder = copied("istio-basics", dict(zip(named, here, strict=True)), tmp_path)
        with running(tmp_path, "-f", folder, "--publish", "80:127.0.0.1:0") as gateway:
            by_path = json.loads(gateway.get("/service-a/x").body)["port"]
            by_header = json.loads(gateway.get("/service-b", end_user="user-a").body)["port"]
            nowhere = gateway.get("/").status
            split = Counter(json.loads(body)["port"] for body in pipelined(gateway.ports[0], "/service-b", 10_000))

    assert (by_path, by_header, nowhere) == (service_a, service_a, 404)
    assert split.keys() == {service_b, reviews_v1}
    chi_squared = (split[service_b] - 2000) ** 2 / 2000 + (split[reviews_v1] - 8000) ** 2 / 8000
    # With one degree of freedom, chance exceeds this once in a million runs.
    assert chi_squared < 23.9


def test_the_quickstart_shows_what_its_demo_promises(tmp_path: Path) -> None:
    with ExitStack() as backends:
        named = [9101, 9102, 9103]
        here = [backends.enter_context(backend()) for _ in named]
        folder = copied("quickstart", dict(zip(named, here, strict=True)), tmp_path)
        with running(tmp_path, "-f", folder, "--publish", "80:127.0.0.1:0") as gateway:
            preview = json.loads(gateway.get("/reviews", x_preview="yes").body)
            canary = [json.loads(gateway.get("/reviews").body) for _ in range(60)]
            about = gateway.get("/about")
            nothing = gateway.get("/nothing-here")

    assert preview["port"] == here[2]
    assert {one["port"] for one in canary} >= set(here[:2])
    assert {one["path"] for one in canary} == {"/api/reviews"}
    assert about.body == "answered by the gateway itself\n"
    assert nothing.status == 404
