"""The whole file that `envoy -c` reads.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/bootstrap/v3/bootstrap.proto
"""

from __future__ import annotations

from ..snapshot import Snapshot, SocketAddress
from .access import jwks_clusters
from .clusters import cluster, shared_dns_cache
from .fields import Message, address
from .listeners import listener
from .tls import refuse_missing_secrets, secret

# Envoy refuses regular expressions whose program is larger than 100 unless told otherwise; this is what Istio tells it.
_RUNTIME = {"re2.max_program_size.error_level": 32768}


def bootstrap(snapshot: Snapshot, *, admin: SocketAddress | None = None) -> Message:
    """`config.bootstrap.v3.Bootstrap`: static resources only. Raises `Inexpressible`.

    `admin` is where Envoy serves its admin pages; without it, nowhere.
    """
    dns_cache = shared_dns_cache(snapshot.clusters)
    refuse_missing_secrets(snapshot)
    return {
        **({"admin": {"address": address(admin)}} if admin else {}),
        "layered_runtime": {"layers": [{"name": "meshproxy", "static_layer": dict(_RUNTIME)}]},
        "static_resources": {
            "listeners": [listener(one, dns_cache) for one in snapshot.listeners],
            "clusters": [
                *(cluster(one, dns_cache) for one in snapshot.clusters),
                *jwks_clusters(snapshot.listeners),
            ],
            **({"secrets": list(map(secret, snapshot.secrets))} if snapshot.secrets else {}),
        },
    }
