"""meshproxy itself, and the mesh that all are configured by."""

from __future__ import annotations

from pathlib import Path

from ..processes import Launch
from .peer import Peer, Setup, told_version

GATEWAY_PORT = 8080

_MESH = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: gateway}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: http, protocol: HTTP}}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: routes}}
spec:
  hosts: ["*"]
  gateways: [gateway]
  http:
  - match: [{{uri: {{prefix: /service-a}}}}]
    route: [{{destination: {{host: origin.test, port: {{number: 80}}}}}}]
  - route: [{{destination: {{host: origin.test, port: {{number: 80}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: origin}}
spec:
  hosts: [origin.test]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{endpoints}]
"""


def mesh(setup: Setup) -> Path:
    """Writes the mesh; the file's path."""
    path = setup.folder / "mesh.yaml"
    endpoints = ", ".join(f"{{address: 127.0.0.1, ports: {{http: {port}}}}}" for port in setup.endpoints)
    path.write_text(_MESH.format(port=GATEWAY_PORT, endpoints=endpoints))
    return path


def options(setup: Setup) -> list[str]:
    """The options that `meshproxy run` and `meshproxy export envoy` have in common."""
    publish = f"{GATEWAY_PORT}:127.0.0.1:{setup.port}"
    return ["-f", str(mesh(setup)), "--publish", publish, "--admin", f"127.0.0.1:{setup.admin_port}"]


def _launch(setup: Setup) -> Launch:
    log = str(setup.log) if setup.access_log else "off"
    return Launch([setup.python, "-m", "meshproxy", "run", *options(setup), "--access-log", log])


MESHPROXY = Peer(
    "meshproxy",
    how_to_get="pip install --editable .",
    version=lambda python: told_version([python, "-m", "meshproxy", "--version"]),
    launch=_launch,
)
