"""A command imports what it needs, and not what the others need: people wait for that at every start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshproxy.cli import COMMANDS, main


def modules(code: str) -> set[str]:
    """What a fresh interpreter has imported after some code."""
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(told.stdout.split())


def test_no_command_is_imported_before_it_is_asked_for() -> None:
    assert not {f"meshproxy.cli.{name}" for name in COMMANDS} & modules("import meshproxy.cli")


def test_a_gateway_imports_nothing_of_tests_explanations_exports_and_scrapes() -> None:
    found = modules("import meshproxy.cli.run")
    others = ("meshproxy.testing", "meshproxy.envoy", "rich", "prometheus_client")
    assert not {one for one in found if one.startswith(others)}
    assert "meshproxy.cli.explain" not in found


STARTED_AND_STOPPED = """
import trio
from pathlib import Path
from meshproxy.cli import run, sidecar
from meshproxy.mesh import build_mesh, gateway_snapshot
from meshproxy.proxy.worker import Worker
from meshproxy.resources import load
from meshproxy.snapshot import SocketAddress

mesh = build_mesh(load([{path!r}]).resources)
worker = Worker(gateway_snapshot(mesh, publish={{80: SocketAddress("127.0.0.1", 0)}}))

async def once():
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        worker.stop()

trio.run(once)
"""
ROOT = Path(__file__).parents[2]
HEAVY = {"cryptography", "httpx", "jwt"}
TOKENS = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: istio-system}
spec: {jwtRules: [{issuer: me, jwks: '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec: {selector: {}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
"""


def test_a_mesh_without_tokens_and_certificates_imports_nothing_for_them(tmp_path: Path) -> None:
    assert not HEAVY & modules(STARTED_AND_STOPPED.format(path=str(ROOT / "policies" / "quickstart")))
    (tmp_path / "tokens.yaml").write_text(TOKENS)
    assert HEAVY & modules(STARTED_AND_STOPPED.format(path=str(tmp_path))) == {"cryptography", "jwt"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_and_listed(name: str) -> None:
    assert name in CliRunner().invoke(main, ["--help"]).stdout
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0
