"""What every listener of a proxy may be told, whichever kind of proxy it is."""

from __future__ import annotations

from typing import TypedDict


class HttpOptions(TypedDict, total=False):
    """What a listener's HTTP connection manager may be told, in the snapshot's words."""

    server_name: str
    max_request_headers_kb: int
    max_headers_count: int
    request_headers_timeout_s: float
    idle_timeout_s: float
