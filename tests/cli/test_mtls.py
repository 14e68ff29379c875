"""Identities of running proxies, as people get them: two sidecars by a CA's directory, one by a CA elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshproxy.identity.authority import create
from tests.test_mtls import ACCEPTED, CALLED
from tests.test_policies import backend, free_port

from .support import meshproxy, until_ready
from .test_sidecar import call


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=datetime.now(UTC))
    return tmp_path / "ca"


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    """The example of docs/mtls.md, on ports that are free."""
    text = "---\n".join((ACCEPTED, CALLED))
    for port in ("9301", "9302", "9303"):
        text = text.replace(port, str(free_port()))
    (tmp_path / "mesh.yaml").write_text(text)
    return tmp_path / "mesh.yaml"


@contextmanager
def command(folder: Path, *arguments: str | Path) -> Iterator[list[int]]:
    """A command that serves, from the moment it is ready; the ports that it listens on."""
    errors = folder / "stderr.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "meshproxy", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )
    try:
        yield until_ready(process, errors)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def sidecar(folder: Path, mesh: Path, workload: str, app: int, *more: str | Path) -> Iterator[int]:
    """A sidecar; the port of its outbound listener."""
    folder.mkdir(exist_ok=True)
    arguments = ("-f", mesh, "--workload", workload, "--app", str(app), "--outbound", "0", *more)
    with command(folder, "sidecar", *arguments) as ports:
        yield ports[0]


def answer(outbound: int) -> str:
    """What curl gets by a sidecar from the app behind the other."""
    arguments = [*call("curl", "http://shop/"), "-x", f"http://127.0.0.1:{outbound}", "-w", " %{http_code}"]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=20).stdout


def test_two_sidecars_by_a_directory_speak_mutual_tls(tmp_path: Path, ca: Path, mesh: Path) -> None:
    more = ("--ca", ca, "--certificate-ttl", "2s")
    with (
        backend() as app,
        sidecar(tmp_path / "shop", mesh, "shop-1", app, *more),
        sidecar(tmp_path / "web", mesh, "web-1", app, *more) as outbound,
    ):
        assert answer(outbound).endswith(" 200")


def test_a_sidecar_elsewhere_joins_by_a_token_and_restarts_without_one(tmp_path: Path, ca: Path, mesh: Path) -> None:
    token = tmp_path / "token"
    token.write_text(meshproxy("ca", "token", "web", "--dir", ca).stdout)
    (tmp_path / "served").mkdir()
    with (
        command(tmp_path / "served", "ca", "serve", "--dir", ca, "--listen", "127.0.0.1:0") as [port],
        backend() as app,
        sidecar(tmp_path / "shop", mesh, "shop-1", app, "--ca", ca),
    ):
        elsewhere = ("--ca", f"https://localhost:{port}", "--ca-root", ca / "root-cert.pem")
        kept = ("--credentials", tmp_path / "mine")
        for more in (("--join-token-file", token), ()):
            with sidecar(tmp_path / "web", mesh, "web-1", app, *elsewhere, *kept, *more) as outbound:
                assert answer(outbound).endswith(" 200")

        used = meshproxy(
            *("sidecar", "-f", mesh, "--workload", "web-1", "--app", "9999", "--outbound", "0", *elsewhere),
            *("--join-token-file", token),
        )
        assert used.returncode == 1
        assert "meshproxy: no identity: the CA at localhost:" in used.stderr
        assert "the join token is not valid" in used.stderr


STRICT_SIDECAR = ("sidecar", "--workload", "shop-1", "--app", "127.0.0.1:9999", "--outbound", "0")


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (
            (),
            1,
            "takes mutual TLS alone, by MESH:4 (PeerAuthentication/mesh.istio-system); say which CA gives one, by --ca",
        ),
        (("--ca", "nowhere"), 2, "no identity: nowhere is no CA"),
        (("--ca", "http://ca.test"), 2, "is not where a CA is; write certs/, or https://"),
        (("--ca", "https://ca.test:0x"), 2, "is not where a CA is"),
        (("--ca", "https://ca.test"), 2, "known by its root certificate: give it by --ca-root"),
        (("--ca", "CA", "--ca-root", "x.pem"), 2, "--ca-root is for a CA elsewhere"),
        (("--ca", "https://ca.test", "--ca-root", "x.pem"), 2, "cannot read x.pem"),
        (("--ca", "CA", "--trust-domain", "other.test"), 2, "is that of cluster.local"),
        (("--ca", "CA", "--trust-domain-alias", "a b"), 2, "the trust domain 'a b' is not of"),
        (("--credentials", "mine"), 2, "say which, by --ca"),
    ],
)
def test_without_an_identity_nothing_starts(
    ca: Path, mesh: Path, more: tuple[str, ...], code: int, message: str
) -> None:
    arguments = [str(ca) if one == "CA" else one for one in more]

    run = meshproxy(*STRICT_SIDECAR, "-f", mesh, *arguments)

    assert run.returncode == code, run.stderr
    assert message.replace("MESH", str(mesh)) in " ".join(run.stderr.split())


def test_a_gateway_is_its_service_account(tmp_path: Path, ca: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
""")
    gateway = ("run", "-f", tmp_path / "gateway.yaml", "--publish", "80:127.0.0.1:0", "--ca", ca)
    with command(tmp_path, *gateway):
        pass

    issued = (ca / "issued.jsonl").read_text()
    assert '"spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"' in issued


def test_another_trust_domain_than_that_of_the_ca_is_refused(ca: Path, mesh: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: {trustDomain: other.test}\n"
    )

    run = meshproxy(*STRICT_SIDECAR, "-f", mesh, "-f", config, "--ca", ca)

    assert run.returncode == 1
    assert f"{config}:4:21: the trust domain is 'other.test' here, and that of the CA is 'cluster.local'" in run.stderr


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("expired", 1, "/ca/ca-cert.pem has expired on 2012-01-01; bring in a new one"),
        ("encrypted", 2, "is encrypted: give its passphrase by --passphrase-file or in MESHPROXY_CA_PASSPHRASE"),
        ("unreadable", 2, "cannot use the key"),
        ("another's", 2, "does not fit the certificate"),
    ],
)
def test_a_ca_of_no_use_says_what_and_where(tmp_path: Path, mesh: Path, what: str, code: int, message: str) -> None:
    ca, other = tmp_path / "ca", tmp_path / "other"
    made = datetime(2010, 1, 1, tzinfo=UTC) if what == "expired" else datetime.now(UTC)
    secret = b"hush" if what == "encrypted" else None
    create(ca, trust_domain="cluster.local", key_type="ecdsa", now=made, passphrase=secret)
    create(other, trust_domain="cluster.local", key_type="ecdsa", now=made)
    if what == "unreadable":
        (ca / "ca-key.pem").write_text("no key")
    elif what == "another's":
        (ca / "ca-key.pem").write_bytes((other / "ca-key.pem").read_bytes())

    run = meshproxy(*STRICT_SIDECAR, "-f", mesh, "--ca", ca)

    assert run.returncode == code, run.stderr
    assert message in run.stderr
    assert run.stderr.startswith("meshproxy: no identity: ")
    assert "Traceback" not in run.stderr
