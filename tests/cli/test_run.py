"""`meshproxy run`: starts what `check` accepts, tells where, drains on a signal."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from ..mesh.support import GATEWAY, service_entry, virtual_service
from .support import meshproxy, running

ANSWERING = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: one}
spec:
  selector: {istio: one}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: two}
spec:
  selector: {istio: two}
  servers:
  - port: {number: 81, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: answer}
spec:
  hosts: ["*"]
  gateways: [one, two]
  http:
  - directResponse: {status: 200, body: {string: here}}
"""


@pytest.fixture
def answering(tmp_path: Path) -> Path:
    file = tmp_path / "answering.yaml"
    file.write_text(ANSWERING)
    return file


def publish(*ports: int) -> list[str]:
    return [part for port in ports for part in ("--publish", f"{port}:127.0.0.1:0")]


def test_listens_for_every_gateway_port_where_it_is_published(answering: Path, tmp_path: Path) -> None:
    with running(tmp_path, "-f", answering, *publish(80, 81)) as gateway:
        assert len(gateway.ports) == 2
        assert gateway.get("/", port=0).body == gateway.get("/", port=1).body == "here"


def test_runs_the_gateways_that_the_selector_satisfies(answering: Path, tmp_path: Path) -> None:
    with running(tmp_path, "-f", answering, "--selector", "istio=two,team=x", *publish(81)) as gateway:
        assert len(gateway.ports) == 1
        assert ":81" not in gateway.errors.read_text().replace("0.0.0.0_81", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drains_and_exits_with_0_on_a_signal(answering: Path, tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "-f", answering, *publish(80, 81)) as gateway:
        gateway.get("/")
        assert gateway.stop(number) == 0
        assert '"GET / HTTP/1.1" 200' in gateway.access_log.read_text()


def test_writes_the_access_log_to_a_file_or_not_at_all(answering: Path, tmp_path: Path) -> None:
    log = tmp_path / "requests.log"
    with running(tmp_path, "-f", answering, *publish(80, 81), "--access-log", log) as gateway:
        gateway.get("/")
        gateway.stop()
    assert log.read_text().count("\n") == 1
    with running(tmp_path, "-f", answering, *publish(80, 81), "--access-log", "off") as gateway:
        gateway.get("/")
        gateway.stop()
        assert gateway.access_log.read_text() == ""


def test_a_configuration_that_does_not_pass_check_never_starts(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(ANSWERING.replace("status: 200", "status: 2000"))

    result = meshproxy("run", "-f", file, *publish(80, 81))

    assert result.returncode == 1
    assert "directResponse.status" in result.stderr
    assert "not started" in result.stderr


def test_key_material_that_is_of_no_use_is_told_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "mesh.yaml"
    rule = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec: {{host: a, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {tmp_path}/ca.pem}}}}}}
"""
    routes = virtual_service("- route: [{destination: {host: a}}]")
    config.write_text("\n---\n".join((GATEWAY, service_entry("a"), routes, rule)))
    refused = meshproxy("run", "-f", config, *publish(80))

    assert refused.returncode == 2
    assert f"not started: cannot read {tmp_path}/ca.pem: No such file or directory ({config}:" in refused.stderr
    assert "DestinationRule/a.default" in refused.stderr


def test_an_address_in_use_is_told_with_its_name(answering: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = meshproxy("run", "-f", answering, "--publish", f"80:127.0.0.1:{port}", *publish(81))

    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_gateway_to_run_is_told(answering: Path) -> None:
    result = meshproxy("run", "-f", answering, "--selector", "istio=three")

    assert result.returncode == 1
    assert "istio=three" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "cure"),
    [
        ("--publish", "80", "80:8080"),
        ("--publish", "80:99999", "65535"),
        ("--publish", "80:localhost:8080", "not an IP address"),
        ("--publish", "80:cafe:8080", "not an IP address"),
        ("--selector", "istio", "istio=ingressgateway"),
        ("--drain-time", "5", "5s"),
        ("--admin", "localhost:1", "127.0.0.1:15000"),
    ],
)
def test_an_option_that_makes_no_sense_is_answered_with_an_example(
    answering: Path, option: str, value: str, cure: str
) -> None:
    result = meshproxy("run", "-f", answering, option, value)

    assert result.returncode == 2
    assert cure in result.stderr


def test_publishing_a_port_that_no_gateway_has_is_told(answering: Path) -> None:
    result = meshproxy("run", "-f", answering, *publish(80, 82))

    assert result.returncode == 2
    assert "no Gateway that is run has port 82" in result.stderr


def test_publishing_a_port_twice_is_told(answering: Path) -> None:
    result = meshproxy("run", "-f", answering, *publish(80, 80, 81))

    assert result.returncode == 2
    assert "--publish 80 is given twice" in result.stderr


@pytest.mark.parametrize("command", [[], ["run"], ["check"]])
def test_help_shows_an_example(command: list[str]) -> None:
    result = meshproxy(*command, "--help")

    assert result.returncode == 0
    assert f"meshproxy {' '.join(command)}".strip() in result.stdout
    assert "policies/quickstart" in result.stdout
