"""Meshes to measure with: a gateway on one port, and what is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from meshproxy.identity.minting import SigningKey

Resource = dict[str, Any]

GATEWAY_PORT = 8080
SERVICE = "origin.test"

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def write(resources: Iterable[Resource], path: Path) -> Path:
    """The resources as a file, written as people write them; returns its path."""
    with path.open("w") as file:
        yaml.dump_all(resources, file, Dumper=_Dumper, sort_keys=False)
    return path


def two_routes(endpoints: Sequence[str]) -> list[Resource]:
    """What the proxies are compared by: two routes, to the same service."""
    routes = [{"match": [{"uri": {"prefix": "/service-a"}}], **to_service()}, to_service()]
    return [gateway(), service(endpoints), virtual_service("routes", ["*"], routes)]


def with_tokens(endpoints: Sequence[str]) -> list[Resource]:
    """Two routes, for requests with a token by `token`, or with none."""
    rule = {"issuer": _ISSUER, "jwks": _key().jwks(), "forwardOriginalToken": True}
    return [*two_routes(endpoints), _security("RequestAuthentication", "tokens", {"jwtRules": [rule]})]


def with_policies(endpoints: Sequence[str]) -> list[Resource]:
    """Two routes behind a thousand rules, each about a team's paths, addresses and methods; the last is about all."""
    rules: list[Resource] = [
        {
            "from": [{"source": {"ipBlocks": [f"10.{team // 250}.{team % 250}.0/24"]}}],
            "to": [{"operation": {"paths": [f"/teams/{team}/*"], "methods": ["GET", "HEAD"]}}],
        }
        for team in range(_RULES - 1)
    ]
    rules.append({"to": [{"operation": {"methods": ["GET"]}}]})
    halves = (rules[: _RULES // 2], rules[_RULES // 2 :])
    policies = [_security("AuthorizationPolicy", f"teams-{n}", {"rules": half}) for n, half in enumerate(halves)]
    return [*two_routes(endpoints), *policies]


_ISSUER = "https://issuer.test"
_RULES = 1000  # of which a policy has 512 at most


@cache
def token() -> str:
    """A token that `with_tokens` lets pass."""
    return _key().sign({"iss": _ISSUER, "sub": "alice", "aud": "bench", "exp": _FAR, "groups": ["dev", "ops"]})


_FAR = 4102444800  # the year 2100


@cache
def _key() -> SigningKey:
    return SigningKey.generate()


def by_tls(endpoints: Sequence[str]) -> list[Resource]:
    """The same, to endpoints that are asked by TLS, whose certificates are verified."""
    tls = {"mode": "SIMPLE", "caCertificates": ROOTS, "subjectAltNames": ["127.0.0.1"]}
    return [*two_routes(endpoints), destination_rule({"tls": tls})]


def by_tls_each(endpoints: Sequence[str]) -> list[Resource]:
    """The same on a new connection for each request, so that a handshake is most of its cost."""
    [*rest, rule] = by_tls(endpoints)
    rule["spec"]["trafficPolicy"]["connectionPool"] = {"http": {"maxRequestsPerConnection": 1}}
    return [*rest, rule]


def at_gateway(endpoints: Sequence[str]) -> list[Resource]:
    """The same, asked by TLS."""
    tls = {"mode": "SIMPLE", "serverCertificate": CERTIFICATE, "privateKey": KEY}
    server = {"port": {"number": GATEWAY_PORT, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"], "tls": tls}
    gateway = _resource("Gateway", "gateway", {"selector": {"istio": "ingressgateway"}, "servers": [server]})
    return [gateway, *two_routes(endpoints)[1:]]


ROOTS = "{roots}"
"""Stands for the file of the authorities that the origin's certificate is of."""
CERTIFICATE, KEY = "{certificate}", "{key}"
"""Stand for the files of that certificate and its key, which a gateway shows too."""

TWO_ROUTES, TOKENS, POLICIES = "two-routes", "tokens", "policies"
BY_TLS, BY_TLS_EACH, AT_GATEWAY = "tls", "tls-each", "tls-gateway"
MESHES: dict[str, Callable[[Sequence[str]], list[Resource]]] = {
    TWO_ROUTES: two_routes,
    TOKENS: with_tokens,
    POLICIES: with_policies,
    BY_TLS: by_tls,
    BY_TLS_EACH: by_tls_each,
    AT_GATEWAY: at_gateway,
}
SECURED = frozenset((BY_TLS, BY_TLS_EACH))
"""Those whose endpoints speak TLS."""
ASKED_BY_TLS = frozenset((AT_GATEWAY,))
"""Those whose gateway does."""
"""Those that proxies are compared by."""


def many_hosts(endpoints: Sequence[str], count: int) -> list[Resource]:
    """A VirtualService a host: `host-0.test`, `host-1.test`, ..."""
    services = [virtual_service(f"host-{one}", [f"host-{one}.test"], [to_service()]) for one in range(count)]
    return [gateway(), service(endpoints), *services]


def many_routes(endpoints: Sequence[str], count: int) -> list[Resource]:
    """One host with that many routes: `/prefix-0/`, exactly `/exact-1`, `/prefix-2/`, ..."""
    routes = [{"match": [{"uri": _uri(one)}], **to_service()} for one in range(count)]
    return [gateway(), service(endpoints), virtual_service("routes", ["*"], routes)]


def _uri(number: int) -> Resource:
    return {"exact": f"/exact-{number}"} if number % 2 else {"prefix": f"/prefix-{number}/"}


def gateway() -> Resource:
    """Takes any host on `GATEWAY_PORT`."""
    server = {"port": {"number": GATEWAY_PORT, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    return _resource("Gateway", "gateway", {"selector": {"istio": "ingressgateway"}, "servers": [server]})


def virtual_service(name: str, hosts: Sequence[str], routes: Sequence[Resource]) -> Resource:
    """Routes for hosts at the gateway."""
    return _resource("VirtualService", name, {"hosts": [*hosts], "gateways": ["gateway"], "http": [*routes]})


def to_service() -> Resource:
    """The part of a route that leads to the service."""
    return {"route": [{"destination": {"host": SERVICE, "port": {"number": 80}}}]}


def destination_rule(policy: Resource) -> Resource:
    """How the service is treated."""
    return _resource("DestinationRule", "origin", {"host": SERVICE, "trafficPolicy": policy})


def service(endpoints: Sequence[str]) -> Resource:
    """The service with its endpoints, each `ip:port`."""
    addresses = [endpoint.rsplit(":", 1) for endpoint in endpoints]
    return _resource(
        "ServiceEntry",
        "origin",
        {
            "hosts": [SERVICE],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": host, "ports": {"http": int(port)}} for host, port in addresses],
        },
    )


def _security(kind: str, name: str, spec: Resource) -> Resource:
    metadata = {"name": name, "namespace": "istio-system"}
    return {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _resource(kind: str, name: str, spec: Resource) -> Resource:
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
