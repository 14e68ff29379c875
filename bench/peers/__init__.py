"""The proxies to compare: a module each, with what it takes to be configured as meshproxy is.

All run one worker in front of the same two endpoints: the one of two with fewer requests is taken (least-request),
there are two routes, paths are normalised, requests get an id and `x-forwarded-for`, metrics are kept, bodies are
streamed, and connections to the endpoints are kept alive, as many as it takes. nginx and Caddy go by the normalised
path, and send on the one that came; the others send the normalised one.

To add one: a module with a `Peer`, and a line in `PEERS`.
"""

from __future__ import annotations

from .aiohttp import AIOHTTP
from .caddy import CADDY
from .envoy import ENVOY
from .haproxy import HAPROXY
from .meshproxy import MESHPROXY
from .nginx import NGINX
from .peer import Peer, Setup

PEERS = (MESHPROXY, ENVOY, NGINX, HAPROXY, CADDY, AIOHTTP)

__all__ = ["AIOHTTP", "CADDY", "ENVOY", "HAPROXY", "MESHPROXY", "NGINX", "PEERS", "Peer", "Setup"]
