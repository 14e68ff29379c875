"""Times what access control decides: a token that has been seen, and policies of a thousand rules.

Writes rows of what, number of rules and microseconds, as JSON: the best of several by the wall clock. Stands alone: it
is run by an interpreter that need not know this package.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

from meshproxy.identity.issuers import Issuers
from meshproxy.identity.minting import SigningKey
from meshproxy.proxy.filters.jwt_authn import jwt_authn
from meshproxy.proxy.filters.rbac import rbac
from meshproxy.proxy.http.failures import Failure
from meshproxy.proxy.http.message import Connection, Request, Response
from meshproxy.snapshot import (
    AccessRule,
    AllOf,
    AnyRequest,
    Authenticated,
    Claim,
    DirectRemoteIp,
    Exact,
    JwtAuthentication,
    JwtProvider,
    LocalJwks,
    Not,
    Prefix,
    Rbac,
    RbacFilter,
    RbacPolicy,
    Regex,
    RequestHeader,
    Suffix,
    UriTemplate,
    UrlPath,
)

_TIMES = 5000
_RULES = 1000
_ONE = _RULES // 2  # of all rules, the request meets this one
_RULE_SETS: dict[str, Callable[[int], AccessRule]] = {
    "paths": lambda n: UrlPath(Exact(f"/teams/{n}/page")),
    "beginnings of paths": lambda n: UrlPath(Prefix(f"/teams/{n}/")),
    "ends of paths": lambda n: UrlPath(Suffix(f"/{n}/page")),
    "templates of paths": lambda n: UriTemplate(f"/*/{n}/**"),
    "hosts": lambda n: RequestHeader(":authority", Exact(f"team-{n}.example"), ignore_case=True),
    "a header": lambda n: RequestHeader("x-team", Exact(f"{n}")),
    "subjects of tokens": lambda n: AllOf((Claim(("iss",), (Exact("me"),)), Claim(("sub",), (Exact(f"{n}"),)))),
    "groups in tokens": lambda n: Claim(("groups",), (Exact(f"group-{n}"),)),
    "identities of peers": lambda n: Authenticated(Exact(f"spiffe://cluster.local/ns/ns-{n}/sa/app")),
    "namespaces of peers": lambda n: Authenticated(Regex(f".*/ns/ns-{n}/.*")),
    "addresses": lambda n: DirectRemoteIp(f"10.{n // 250}.{n % 250}.0/24"),
    "methods and paths": lambda n: AllOf(
        (RequestHeader(":method", Exact("GET")), UrlPath(Prefix(f"/teams/{n}/")), Not(UrlPath(Suffix("/secret"))))
    ),
}


async def _refused(request: Request, failure: Failure) -> Response:
    return Response(failure.kind.status, [])


def _request() -> Request:
    request = Request()
    request.method, request.path, request.authority = b"GET", f"/teams/{_ONE}/page".encode(), b"team-%d.example" % _ONE
    request.headers = [
        *((b"user-agent", b"curl/8.0"), (b"accept", b"*/*"), (b"x-forwarded-for", b"192.0.2.1")),
        *((b"x-request-id", b"2e0e5a6c-54c3-4a07-9d2c-3a5c6f2f4a10"), (b"x-team", b"%d" % _ONE)),
    ]
    peer = b"10.%d.%d.7" % divmod(_ONE, 250)
    names = (b"spiffe://cluster.local/ns/ns-%d/sa/app" % _ONE,)
    request.connection = Connection(peer, f"{peer.decode()}:40000", "10.0.0.1:80", names)
    request.peer, request.local_address = peer, "10.0.0.1:80"
    request.claims = {"iss": "me", "sub": f"{_ONE}", "groups": [f"group-{_ONE}", "all"]}
    return request


def _token_us() -> float:
    key = SigningKey.generate()
    config = JwtAuthentication((JwtProvider("p", "me", LocalJwks(key.jwks())),))
    service = jwt_authn(config, Issuers().keys, time.time, _refused, lambda request: _DONE)
    token = key.sign({"iss": "me", "sub": "alice", "exp": int(time.time()) + 3600, "groups": ["dev", "ops"]})
    request = _request()
    headers = [*request.headers, (b"authorization", f"Bearer {token}".encode())]

    def run() -> None:
        request.headers = headers
        service(request)

    return _best(run)


def _policies_us(rule: Callable[[int], AccessRule]) -> float:
    policies = tuple(RbacPolicy(f"p{n:04}", (rule(n),), (AnyRequest(),)) for n in range(_RULES))
    decided: list[str] = []
    service = rbac((RbacFilter(Rbac("ALLOW", policies)),), decided.append, _refused, lambda request: _DONE)
    request = _request()
    service(request)
    assert decided == ["rbac_allowed"], rule
    return _best(lambda: service(request))


class _Done:
    """An answer that nobody waits for."""

    def __await__(self) -> Generator[Any, Any, Response]:
        raise NotImplementedError


_DONE: _Done = _Done()


def _best(run: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(_TIMES):
            run()
        best = min(best, time.perf_counter() - started)
    return best / _TIMES * 1e6


if __name__ == "__main__":
    rows = [("a token that has been seen", 0, _token_us())]
    rows += [(name, _RULES, _policies_us(rule)) for name, rule in _RULE_SETS.items()]
    json.dump(rows, sys.stdout)
