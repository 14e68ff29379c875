"""TLS at gateways: servers that cannot be served beside others, and key material that is not there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ...resources import Gateway, Problem, Resource, Secret
from ..credentials import Credentials
from ..gateway import is_served, selected_gateways, server_conflicts
from ..mutual_tls import Trust
from ..server_tls import server_tls
from .scope import Scope


def conflicting_servers(scope: Scope) -> Iterator[Problem]:
    """A server that shares its port with others that leave no room for it.

    Without a proxy's labels, only Gateways for the very same workloads are held against each other.
    """
    if scope.labels is not None:
        yield from server_conflicts(selected_gateways(scope.mesh, scope.labels))
        return
    together: defaultdict[frozenset[tuple[str, str]], list[Resource[Gateway]]] = defaultdict(list)
    for gateway in scope.mesh.gateways.values():
        together[frozenset(gateway.spec.selector.items())].append(gateway)
    for gateways in together.values():
        yield from server_conflicts(gateways)


def missing_credentials(scope: Scope) -> Iterator[Problem]:
    """A Secret that a server names, and that is not there, or has not what it takes."""
    if scope.unreadable("Secret"):
        return
    credentials = Credentials.of(scope.mesh.of(Secret), scope.namespace)
    for gateway in scope.mesh.gateways.values():
        for place, server in enumerate(gateway.spec.servers):
            if server.tls is not None and server.port.protocol.upper() == "HTTPS" and is_served(server):
                for missing in server_tls(server.tls, credentials, Trust()).missing:
                    yield gateway.problem(("spec", "servers", place, "tls", *missing.field), missing.why)
