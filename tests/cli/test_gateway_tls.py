"""TLS at a gateway, with the command that people run and the clients that they have."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..certificates import DAY, NOW, Ca, Pair
from .support import Gateway, meshproxy, running

CA = Ca()

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

MESH = """\
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{name: web, namespace: istio-system}}
stringData: {{tls.crt: {chain}, tls.key: {key}, ca.crt: {ca}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: gw, namespace: istio-system}}
spec:
  servers:
  - port: {{number: 80, name: http, protocol: HTTP}}
    hosts: [a.test]
    tls: {{httpsRedirect: true}}
  - port: {{number: 443, name: https, protocol: HTTPS}}
    hosts: [a.test]
    tls: {{{tls}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: vs}}
spec:
  hosts: [a.test]
  gateways: [istio-system/gw]
  http: [{{directResponse: {{status: 200, body: {{string: hello}}}}}}]
"""


def mesh(folder: Path, pair: Pair, tls: str = "mode: SIMPLE, credentialName: web") -> Path:
    file = folder / "mesh.yaml"
    file.write_text(MESH.format(chain=repr_(pair.chain), key=repr_(pair.key), ca=repr_(CA.pem), tls=tls))
    return file


def repr_(text: str) -> str:
    """A text in YAML's double quotes."""
    return '"' + text.replace("\n", "\\n") + '"'


def started(folder: Path, file: Path) -> Iterator[Gateway]:
    published = ["--publish", "80:127.0.0.1:0", "--publish", "443:127.0.0.1:0"]
    with running(folder, "-f", file, *published) as gateway:
        yield gateway


def curl(gateway: Gateway, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    (folder / "ca.pem").write_text(CA.pem)
    port = gateway.ports[1]
    command = ["curl", "-s", "--cacert", folder / "ca.pem", "--resolve", f"a.test:{port}:127.0.0.1", *arguments]
    return subprocess.run([*command, f"https://a.test:{port}/"], capture_output=True, text=True, timeout=20)


@needs_curl
def test_curl_is_served_by_tls_and_sent_to_it(tmp_path: Path) -> None:
    for gateway in started(tmp_path, mesh(tmp_path, CA.issue("a.test"))):
        assert curl(gateway, tmp_path).stdout == "hello"
        assert curl(gateway, tmp_path, "--tls-max", "1.2").stdout == "hello"
        head = subprocess.run(
            ["curl", "-sI", "-H", "host: a.test", f"http://127.0.0.1:{gateway.ports[0]}/x?y"],
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout
        assert head.startswith("HTTP/1.1 301 ")
        assert "location: https://a.test/x?y\n" in head.replace("\r", "")


@needs_curl
def test_curl_shows_a_certificate_where_it_has_to(tmp_path: Path) -> None:
    chain, key = CA.issue("client.test").write(tmp_path, "client")
    for gateway in started(tmp_path, mesh(tmp_path, CA.issue("a.test"), "mode: MUTUAL, credentialName: web")):
        assert curl(gateway, tmp_path, "--cert", chain, "--key", key).stdout == "hello"
        assert curl(gateway, tmp_path).returncode != 0


@needs_curl
def test_files_are_served(tmp_path: Path) -> None:
    CA.issue("a.test").write(tmp_path)
    files = f"mode: SIMPLE, serverCertificate: {tmp_path}/tls.crt, privateKey: {tmp_path}/tls.key"
    for gateway in started(tmp_path, mesh(tmp_path, CA.issue("other.test"), files)):
        assert curl(gateway, tmp_path).stdout == "hello"


def test_key_material_that_cannot_be_used_keeps_it_from_starting(tmp_path: Path) -> None:
    files = f"mode: SIMPLE, serverCertificate: {tmp_path}/c, privateKey: {tmp_path}/k"
    file = mesh(tmp_path, CA.issue("a.test"), files)
    result = meshproxy("run", "-f", file)
    assert result.returncode == 2
    assert f"cannot read {tmp_path}/c: No such file or directory" in result.stderr
    assert "mesh.yaml:17 (Gateway/gw.istio-system)" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_looks_at_key_material(tmp_path: Path) -> None:
    misfit = Pair(CA.issue("a.test").chain, CA.issue("b.test").key)
    result = meshproxy("check", mesh(tmp_path, misfit))
    assert result.returncode == 1
    told = "the key tls.key of Secret/web.istio-system does not fit the certificate tls.crt of Secret/web.istio-system"
    assert told in result.stdout
    assert "PRIVATE" not in result.stdout + result.stderr


def test_check_notes_what_it_cannot_look_at_and_what_has_expired(tmp_path: Path) -> None:
    files = "mode: SIMPLE, serverCertificate: /not/here, privateKey: /nor/here"
    result = meshproxy("check", mesh(tmp_path, CA.issue("a.test"), files))
    assert result.returncode == 0
    assert "/not/here is not on this machine, so that it was not looked at" in result.stderr
    result = meshproxy("check", mesh(tmp_path, CA.issue("a.test", expires=NOW - DAY)))
    assert result.returncode == 0
    assert "the certificate for a.test has expired" in result.stderr


RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: far, namespace: app}
spec:
  host: far.example.com
  workloadSelector: {matchLabels: {app: web}}
  trafficPolicy:
    tls: {mode: MUTUAL, clientCertificate: DIR/tls.crt, privateKey: DIR/tls.key, caCertificates: DIR/absent}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: app}
spec:
  hosts: [far.example.com]
  ports: [{number: 443, name: http, protocol: HTTP}]
  resolution: DNS
"""


def test_check_looks_at_key_material_that_only_sidecars_use(tmp_path: Path) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text(RULE.replace("DIR", str(tmp_path)))
    CA.issue("web.test").write(tmp_path)
    result = meshproxy("check", file)
    assert result.returncode == 0
    assert f"{tmp_path}/absent is not on this machine, so that it was not looked at" in result.stderr
    Pair(CA.issue("web.test").chain, CA.issue("web.test").key).write(tmp_path)
    result = meshproxy("check", file)
    assert result.returncode == 1
    assert f"the key {tmp_path}/tls.key does not fit the certificate {tmp_path}/tls.crt" in result.stdout
    assert "rule.yaml:8" in result.stdout


def test_explain_finds_the_filter_chain_for_the_host(tmp_path: Path) -> None:
    file = mesh(tmp_path, CA.issue("a.test"))
    assert "x-forwarded-proto: https" in meshproxy("explain", "-f", file, "GET", "https://a.test/").stdout
    assert "location: https://a.test/x" in meshproxy("explain", "-f", file, "GET", "http://a.test/x").stdout
    found = meshproxy("explain", "-f", file, "GET", "https://b.test/")
    assert "no filter chain for the server 'b.test'" in found.stdout
    assert found.returncode == 1
