"""Caddy."""

from __future__ import annotations

from ..processes import Launch
from .peer import Peer, Setup, told_version

_CONFIG = """
{{
    admin 127.0.0.1:{admin_port}
    auto_https off
    servers {{
        metrics
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    {log}
    request_header x-request-id {{http.request.uuid}}
    handle /service-a* {{
        {proxy}
    }}
    handle {{
        {proxy}
    }}
}}
"""

_PROXY = """reverse_proxy {endpoints} {{
            lb_policy random_choose 2
            flush_interval -1
            transport http {{
                keepalive_idle_conns 1024
                keepalive_idle_conns_per_host 1024
            }}
        }}"""


def _launch(setup: Setup) -> Launch:
    config = setup.folder / "Caddyfile"
    log = f"log {{\n        output file {setup.log} {{\n            roll_disabled\n        }}\n    }}"
    config.write_text(
        _CONFIG.format(
            port=setup.port,
            admin_port=setup.admin_port,
            log=log if setup.access_log else "",
            proxy=_PROXY.format(endpoints=" ".join(setup.endpoints)),
        )
    )
    one_worker = {"GOMAXPROCS": "1", "HOME": str(setup.folder), "XDG_DATA_HOME": str(setup.folder)}
    return Launch(["caddy", "run", "--adapter", "caddyfile", "--config", config], one_worker)


CADDY = Peer(
    "Caddy", how_to_get="apt-get install caddy", version=lambda _: told_version(["caddy", "version"]), launch=_launch
)
