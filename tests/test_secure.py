"""The example mesh `policies/secure`, made and run as its demo does it: what its demo promises, curl finds."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from .cli.support import meshproxy, running
from .cli.test_mtls import sidecar
from .test_policies import POLICIES, copied, free_port

DEMO = tomllib.loads((POLICIES / "secure" / "demo.toml").read_text())
_CERTS = "certs/secure"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    """`policies/demo.py`, which is a program."""
    spec = importlib.util.spec_from_file_location("demo", POLICIES / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Secure:
    """The running mesh: where the gateway listens, and the outbound listeners of the sidecars, and their own port."""

    def __init__(self, certs: Path, gateway: list[int], shop: int, orders: int, inbound: int) -> None:
        self.certs = certs
        self.plain, self.https = gateway
        self.shop, self.orders, self.inbound = shop, orders, inbound

    def curl(self, *arguments: str) -> tuple[int, str]:
        """The status, 0 if there is no response, and the body."""
        command = ["curl", "-s", "--max-time", "20", "-w", "\n%{http_code}", *arguments]
        body, _, status = subprocess.run(command, capture_output=True, text=True).stdout.rpartition("\n")
        return int(status), body

    def https_get(self, path: str, *arguments: str, user: str = "") -> tuple[int, str]:
        """From the gateway, known by the CA's root; as a user, by the token that was made for them."""
        who = ["-H", f"authorization: Bearer {(self.certs / f'{user}.jwt').read_text().strip()}"] if user else []
        root = str(self.certs / "root-cert.pem")
        return self.curl("--cacert", root, "--path-as-is", f"https://localhost:{self.https}{path}", *who, *arguments)


@pytest.fixture(scope="module")
def secure(demo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    tmp_path = tmp_path_factory.mktemp("secure")
    certs = tmp_path / "certs"
    prepare(certs)
    with ExitStack() as started:
        apps = {one["name"]: _started(started, demo, one, certs) for one in DEMO["backends"]}
        inbound = {9501: free_port(), 9502: free_port()}
        folder = copied("secure", {**inbound, 9503: apps["issuer"], 9504: apps["tickets"]}, tmp_path)
        for file in folder.iterdir():
            file.write_text(file.read_text().replace(_CERTS, str(certs)))
        shop = started.enter_context(sidecar(tmp_path / "s", folder, "shop", apps["shop"], "--ca", certs))
        orders = started.enter_context(sidecar(tmp_path / "o", folder, "orders", apps["orders"], "--ca", certs))
        published = ("--publish", "80:127.0.0.1:0", "--publish", "443:127.0.0.1:0")
        gateway = started.enter_context(running(tmp_path, "-f", folder, *published, "--ca", certs))
        told = gateway.errors.read_text()
        ports = [int(port) for port in re.findall(r"^listening on \S*:(\d+) ", told, re.MULTILINE)]
        yield Secure(certs, ports, shop, orders, inbound[9501])


def prepare(certs: Path) -> None:
    """What the demo makes, elsewhere."""
    for step in DEMO["prepare"]:
        made = meshproxy(*(word.replace(_CERTS, str(certs)) for word in step["command"]))
        assert made.returncode == 0, made.stderr
        if "to" in step:
            Path(step["to"].replace(_CERTS, str(certs))).write_text(made.stdout)


def _started(started: ExitStack, demo: ModuleType, backend: dict[str, str], certs: Path) -> int:
    file = backend.get("file", "").replace(_CERTS, str(certs))
    server = started.enter_context(demo.Backend(backend["name"], 0, file, backend.get("wants", "")))
    port: int = server.server_address[1]
    return port


def test_plain_http_is_sent_on(secure: Secure) -> None:
    assert secure.curl(f"http://localhost:{secure.plain}/")[0] == 301


def test_who_has_no_token_sees_what_is_public(secure: Secure) -> None:
    assert (secure.https_get("/")[0], secure.https_get("/public/x")[0]) == (403, 200)


def test_the_shop_is_told_who_asks_and_who_called(secure: Secure) -> None:
    status, body = secure.https_get("/", "-H", "x-user: root", user="bob")
    assert status == 200
    assert "x-user: bob\n" in body
    assert "URI=spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account\n" in body


@pytest.mark.parametrize("path", ["/admin", "//Admin", "/x/..%2fadmin", "/admin;a"])
def test_staff_alone_administrates(secure: Secure, path: str) -> None:
    assert (secure.https_get(path, user="bob")[0], secure.https_get(path, user="alice")[0]) == (403, 200)


def test_who_checks_out_has_a_ticket(secure: Secure) -> None:
    assert secure.https_get("/checkout", user="bob") == (403, "tickets: no x-ticket, no entry\n")
    assert secure.https_get("/checkout", "-H", "x-ticket: 1", user="bob")[0] == 200


def test_there_is_no_way_in_by_plain_text(secure: Secure) -> None:
    assert secure.curl(f"http://127.0.0.1:{secure.inbound}/") == (0, "")


def test_workloads_may_do_what_they_may(secure: Secure) -> None:
    by_shop = ("-x", f"http://127.0.0.1:{secure.shop}")
    status, body = secure.curl(*by_shop, "http://orders/7")
    assert status == 200
    assert "URI=spiffe://cluster.local/ns/default/sa/shop\n" in body
    assert secure.curl(*by_shop, "-X", "DELETE", "http://orders/7")[0] == 403
    assert secure.curl("-x", f"http://127.0.0.1:{secure.orders}", "http://shop/")[0] == 403
