"""What would Envoy run in our place?

A `Snapshot` written out as the configuration of Envoy 1.40 (API v3): the way up for those who outgrow Python, and the
way in for the referee that holds our behaviour against Envoy's own.

- `bootstrap`: the whole file that `envoy -c` reads.
- `listeners`: a listener, its HTTP connection manager, its virtual hosts.
- `routes`: a route: its conditions, its action, its header changes.
- `filters`: HTTP filters, and what routes tell them.
- `clusters`: a cluster and its endpoints; among them the one that goes where a request's authority says.
- `health`: what takes endpoints out: outlier detection and health checks.
- `tls`: secrets, and how connections are secured by them.
- `fields`: addresses, durations, matchers, and the error for what Envoy has no words for.

Rules:

1. A function an Envoy message; each is JSON-ready data, with the field names of Envoy's v3 API.
2. Only what the snapshot says, and what meshproxy does where Envoy's default is something else.
3. Nothing is dropped: what Envoy cannot express raises `Inexpressible`, which names it.
"""

from __future__ import annotations

from .bootstrap import bootstrap
from .fields import Inexpressible, Message

__all__ = ["Inexpressible", "Message", "bootstrap"]
