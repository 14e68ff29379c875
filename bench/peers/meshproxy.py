"""meshproxy itself, and the mesh that all are configured by."""

from __future__ import annotations

from ..meshes import CERTIFICATE, GATEWAY_PORT, KEY, MESHES, ROOTS, write
from ..processes import Launch
from .peer import Peer, Setup, told_version


def options(setup: Setup) -> list[str]:
    """The options that `meshproxy run` and `meshproxy export envoy` have in common; writes the mesh."""
    mesh = write(MESHES[setup.mesh](setup.endpoints), setup.folder / "mesh.yaml")
    if setup.roots is not None:
        files = {
            ROOTS: setup.roots,
            CERTIFICATE: setup.roots.with_name("origin.crt"),
            KEY: setup.roots.with_name("origin.key"),
        }
        text = mesh.read_text()
        for placeholder, path in files.items():
            text = text.replace(placeholder, str(path))
        mesh.write_text(text)
    publish = f"{GATEWAY_PORT}:127.0.0.1:{setup.port}"
    return ["-f", str(mesh), "--publish", publish, "--admin", f"127.0.0.1:{setup.admin_port}"]


def _launch(setup: Setup) -> Launch:
    log = str(setup.log) if setup.access_log else "off"
    return Launch([setup.python, "-m", "meshproxy", "run", *options(setup), "--access-log", log])


MESHPROXY = Peer(
    "meshproxy",
    how_to_get="pip install --editable .",
    version=lambda python: told_version([python, "-m", "meshproxy", "--version"]),
    launch=_launch,
)
