"""A stock Envoy serves the example meshes from what `meshproxy export envoy` writes; one that cannot start says why."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from meshproxy.snapshot import (
    Cluster,
    FilterChain,
    HttpConnectionManager,
    Listener,
    RouteConfiguration,
    Snapshot,
    SocketAddress,
)

from ..cli.support import meshproxy
from ..envoy.binary import needs_envoy
from ..mesh.support import GATEWAY, virtual_service
from ..test_policies import backend, copied, free_port, get_by_tls, mounted
from .cases.outliers import probed
from .referee import envoy, started

pytestmark = needs_envoy


@contextmanager
def _exported(mesh: Path, tmp_path: Path, *options: str | Path) -> Iterator[dict[str, SocketAddress]]:
    """Envoy, from the bootstrap that is exported of a mesh; where it listens."""
    arguments = ("-f", mesh, "--publish", "80:127.0.0.1:0", "--admin", "127.0.0.1:0")
    exported = meshproxy("export", "envoy", *arguments, *options)
    assert exported.returncode == 0, exported.stderr
    bootstrap = yaml.safe_load(exported.stdout)
    (tmp_path / "bootstrap.yaml").write_text(exported.stdout)
    with started(tmp_path / "bootstrap.yaml", len(bootstrap["static_resources"]["listeners"])) as listening:
        yield listening


def _get(address: SocketAddress, path: str, host: str = "localhost") -> Any:
    request = urllib.request.Request(f"http://{address}{path}", headers={"host": host})
    with urllib.request.urlopen(request, timeout=5) as response:
        return response.read().decode()


def test_envoy_serves_the_quickstart(tmp_path: Path) -> None:
    with backend() as v1, backend() as other_v1, backend() as v2:
        folder = copied("quickstart", {9101: v1, 9102: other_v1, 9103: v2}, tmp_path)
        with _exported(folder, tmp_path) as listening:
            [address] = listening.values()
            reached = {json.loads(_get(address, "/reviews"))["port"] for _ in range(60)}
            about = _get(address, "/about")
    assert reached >= {v1, other_v1}
    assert about == "answered by the gateway itself\n"


def test_envoy_serves_a_prediction(tmp_path: Path) -> None:
    local = free_port()
    with backend() as model:
        folder = copied("sklearn-iris", {8012: model, 8081: local}, tmp_path)
        ca = mounted(tmp_path / "etc/istio/ingressgateway-certs", "sklearn-iris.default.example.com")
        https = free_port()
        options = ("--publish", f"443:127.0.0.1:{https}", "--files-root", tmp_path)
        with _exported(folder, tmp_path, *options) as listening:
            ingress = next(address for address in listening.values() if address.port not in (local, https))
            answer = _get(ingress, "/v1/models/sklearn-iris:predict", "sklearn-iris.default.example.com")
            by_tls = get_by_tls(https, "sklearn-iris.default.example.com", "/v1/models/sklearn-iris:predict", ca)
    assert by_tls["path"] == "/v1/models/sklearn-iris:predict"
    received = json.loads(answer)
    assert received["port"] == model
    assert received["headers"]["knative-serving-revision"] == "sklearn-iris-predictor-default-00001"


_TEXTS = (
    *("y", "N", "on", "0XFF", "-0X1", "+0XFFFFFFFFFF", "010", "0o17", "09", "1_0", "1e3", ".5", "12:30", "2001-01-01"),
    *("~", "null", "nUll", "=", "<<", " ", "#", "!a", "*a", "a: b", "a\tb\r\n", "\x01", "x  y " * 40, "\t" * 200),
    *("\u0085", "\u00a0", "\u00e9", "\u2028", "\U0001f600"),
)


def test_every_text_is_to_envoy_what_it_was_to_us(tmp_path: Path) -> None:
    rules = [
        {"match": [{"uri": {"exact": f"/{place}"}}], "directResponse": {"status": 200, "body": {"string": text}}}
        for place, text in enumerate(_TEXTS)
    ]
    documents = (GATEWAY, virtual_service(yaml.safe_dump(rules, default_style='"')))
    (tmp_path / "mesh.yaml").write_text("---".join(documents))
    with _exported(tmp_path / "mesh.yaml", tmp_path) as listening:
        [address] = listening.values()
        assert tuple(_get(address, f"/{place}", "example.com") for place in range(len(_TEXTS))) == _TEXTS


@pytest.mark.parametrize(("probe", "status"), [("port: PORT, path: /healthz", 200), ("port: 1, path: /healthz", 503)])
def test_envoy_probes_workloads(tmp_path: Path, probe: str, status: int) -> None:
    with backend() as app:
        snapshot = probed(f"httpGet: {{{probe}}}")({"a": SocketAddress("127.0.0.1", app)})
        listeners = tuple(replace(one, address=SocketAddress("127.0.0.1", 0)) for one in snapshot.listeners)
        with envoy(replace(snapshot, listeners=listeners), tmp_path) as listening:
            [address] = listening.values()
            answer = requests.get(f"http://{address}/", headers={"host": "example.com"}, timeout=5)
    assert answer.status_code == status


def test_an_envoy_that_does_not_start_says_why_and_its_bootstrap_is_kept(tmp_path: Path) -> None:
    manager = HttpConnectionManager(RouteConfiguration("r", ()))
    twice = (Cluster("twice", ()), Cluster("twice", ()))
    snapshot = Snapshot((Listener("l", SocketAddress("127.0.0.1", 0), (FilterChain(manager),)),), twice)
    with pytest.raises(AssertionError, match="Envoy did not start") as failure, envoy(snapshot, tmp_path):
        pass
    found = re.search(r"by (\S+):\n", str(failure.value))
    assert found is not None
    assert json.loads(Path(found[1]).read_text())["static_resources"]["clusters"]
    assert "duplicate cluster 'twice'" in str(failure.value)
