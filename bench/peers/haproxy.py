"""HAProxy."""

from __future__ import annotations

from ..processes import Launch
from .peer import Peer, Setup, told_version

# It writes no log to a file by itself: its standard output is one.
_CONFIG = """
global
    nbthread 1
    maxconn 8192
    expose-experimental-directives
    {log}
defaults
    mode http
    timeout connect 10s
    timeout client 300s
    timeout server 300s
    option forwardfor
    {http_log}
frontend metrics
    bind 127.0.0.1:{admin_port}
    http-request use-service prometheus-exporter
frontend http
    bind 127.0.0.1:{port} backlog 4096
    http-request normalize-uri path-strip-dot
    http-request normalize-uri path-strip-dotdot full
    http-request normalize-uri percent-decode-unreserved
    http-request set-header x-forwarded-proto http
    unique-id-format %[uuid()]
    unique-id-header x-request-id
    use_backend service-a if {{ path_beg /service-a }}
    default_backend default
backend service-a
    {servers}
backend default
    {servers}
"""


def _launch(setup: Setup) -> Launch:
    config = setup.folder / "haproxy.cfg"
    servers = [f"server endpoint{number} {endpoint}" for number, endpoint in enumerate(setup.endpoints)]
    config.write_text(
        _CONFIG.format(
            log="log stdout format raw local0" if setup.access_log else "",
            http_log="log global\n    option httplog" if setup.access_log else "",
            port=setup.port,
            admin_port=setup.admin_port,
            servers="\n    ".join(["balance random(2)", "http-reuse always", *servers]),
        )
    )
    return Launch(["haproxy", "-db", "-f", config])


HAPROXY = Peer(
    "HAProxy", how_to_get="apt-get install haproxy", version=lambda _: told_version(["haproxy", "-v"]), launch=_launch
)
