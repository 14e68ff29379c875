"""Who may do what: tokens, and policies by everything that they can ask."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import jwt

from ...mesh.support import virtual_service
from ..exchanges import Case, Configuration, Exchange, exchange, get, head, request, resources

_FAR = 4102444800  # 2100
_LONG_AGO = 946684800
_SECRET = b"0123456789abcdef0123456789abcdef"
_OTHER_SECRET = b"fedcba9876543210fedcba9876543210"
_GRPC = "content-type: application/grpc"


def _jwks(secret: bytes = _SECRET, kid: str = "k1") -> str:
    key = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    return json.dumps({"keys": [{"kty": "oct", "kid": kid, "alg": "HS256", "k": key}]})


def _token(
    claims: Mapping[str, Any] | None = None, *, secret: bytes = _SECRET, kid: str | None = "k1", **more: Any
) -> str:
    told = {"iss": "me", "sub": "alice", "exp": _FAR, **(claims or {}), **more}
    headers = {"kid": kid} if kid else {}
    return jwt.encode({name: one for name, one in told.items() if one is not None}, secret, "HS256", headers)


def _raw(header: str, payload: str, signature: str = "AAAA") -> str:
    parts = [base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in (header, payload)]
    return ".".join((*parts, signature))


def _bearer(name: str, token: str, *lines: str, target: str = "/", method: str = "GET") -> Exchange:
    return exchange(name, head(target, f"authorization: Bearer {token}", *lines, method=method))


_RULES = """
- match: [{headers: {x-r: {exact: '1'}}}]
  route: [{destination: {host: a}}]
  headers: {response: {set: {x-set: 'yes'}}}
- route: [{destination: {host: a}}]
"""


def _authentication(rules: str, routes: str = _RULES, *more: str) -> Configuration:
    return resources(
        virtual_service(routes),
        f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: istio-system}}
spec:
  jwtRules:
{rules}""",
        *more,
    )


def _rule(fields: str = "", issuer: str = "me", jwks: str = _jwks()) -> str:
    return f"  - {{issuer: {issuer}, jwks: '{jwks}'{', ' + fields if fields else ''}}}\n"


_HEADER = '{"alg":"HS256","kid":"k1"}'


_TOKENS = (
    Case(
        "tokens of one issuer",
        _authentication(_rule()),
        (
            get(),
            get("/", _GRPC),
            _bearer("good", _token()),
            _bearer("good, a list of audiences", _token(aud=["x", "y"])),
            _bearer("without a key's id", _token(kid=None)),
            _bearer("without a subject", _token(sub=None)),
            _bearer("that never expires", _token(exp=None)),
            _bearer("an expiry of 0", _token(exp=0)),
            _bearer("expired", _token(exp=_LONG_AGO)),
            _bearer("expired, gRPC", _token(exp=_LONG_AGO), _GRPC),
            _bearer("expired, HEAD", _token(exp=_LONG_AGO), method="HEAD"),
            _bearer("expired, on a route that changes headers", _token(exp=_LONG_AGO), "x-r: 1"),
            _bearer("expired, with a query", _token(exp=_LONG_AGO), target="/a/b?c=d&e"),
            _bearer("expired, with a long path", _token(exp=_LONG_AGO), target="/" + "x" * 400),
            _bearer("not yet valid", _token(nbf=_FAR)),
            _bearer("of another issuer", _token(iss="you")),
            _bearer("of no issuer", _token(iss=None)),
            _bearer("signed by another key", _token(secret=_OTHER_SECRET)),
            _bearer("by a key that is not known", _token(kid="k2")),
            _bearer("no token at all", "nonsense"),
            _bearer("two parts", "a.b"),
            _bearer("four parts", "a.b.c.d"),
            _bearer("an empty part", "a..c"),
            _bearer("a header that is no base64", "#.b.c"),
            _bearer("a header that is no JSON", _raw("{", "{}")),
            _bearer("a header that is a list", _raw("[]", "{}")),
            _bearer("a header that says twice", _raw('{"alg":"HS256","alg":"HS256"}', "{}")),
            _bearer("no algorithm", _raw("{}", "{}")),
            _bearer("an algorithm that is no text", _raw('{"alg":1}', "{}")),
            _bearer("algorithm none", _raw('{"alg":"none"}', '{"iss":"me"}', "")),
            _bearer("algorithm none, signed", _raw('{"alg":"none"}', '{"iss":"me"}')),
            _bearer("algorithm NONE", _raw('{"alg":"NONE"}', '{"iss":"me"}')),
            _bearer("another algorithm than the key's", _raw('{"alg":"RS256","kid":"k1"}', '{"iss":"me"}')),
            _bearer("a key's id that is no text", _raw('{"alg":"HS256","kid":1}', "{}")),
            _bearer("a payload that is no JSON", _raw(_HEADER, "{")),
            _bearer("a payload that says twice", _raw(_HEADER, '{"iss":"me","iss":"me"}')),
            _bearer("a payload with NaN", _raw(_HEADER, '{"exp":NaN}')),
            _bearer("a payload nested deep", _raw(_HEADER, '{"a":' + "[" * 200 + "]" * 200 + "}")),
            _bearer("an issuer that is no text", _raw(_HEADER, '{"iss":1}')),
            _bearer("a subject that is no text", _raw(_HEADER, '{"sub":1}')),
            _bearer("an expiry that is no number", _raw(_HEADER, '{"exp":"1"}')),
            _bearer("an expiry below zero", _raw(_HEADER, '{"exp":-1}')),
            _bearer("an expiry too large", _raw(_HEADER, '{"exp":1e30}')),
            _bearer("a beginning that is no number", _raw(_HEADER, '{"nbf":true}')),
            _bearer("an audience that is no text", _raw(_HEADER, '{"aud":1}')),
            _bearer("audiences that are no texts", _raw(_HEADER, '{"aud":["a",1]}')),
            _bearer("an id that is no text", _raw(_HEADER, '{"jti":1}')),
            _bearer("a signature that is no base64", _raw(_HEADER, '{"iss":"me"}', "#")),
            _bearer("a signature cut short", _token()[:-4]),
            get("/", "authorization: Basic YTpi", name="other credentials"),
            get("/", f"authorization: bearer {_token()}", name="bearer in lower case"),
            get("/", f"authorization: Bearer    {_token()}", name="several spaces"),
            get("/", f"authorization: x Bearer {_token()}", name="something before"),
            get("/", "authorization: Bearer", name="nothing behind"),
            get(f"/?access_token={_token()}", name="in the query"),
            get(f"/p?a=1&access_token={_token()}&b=2", name="in the query, among others"),
            get("/?access_token=x", name="bad in the query"),
            get("/?access_token", name="empty in the query"),
            request("OPTIONS", "/", "authorization: Bearer x", "origin: a", "access-control-request-method: PUT"),
            request("OPTIONS", "/", "authorization: Bearer x", "origin: a"),
        ),
    ),
    Case(
        "tokens with audiences",
        _authentication(_rule("audiences: [one, 'https://two/']")),
        (
            _bearer("the first", _token(aud="one")),
            _bearer("the second of several", _token(aud=["x", "https://two/"])),
            _bearer("without scheme and slash", _token(aud="two")),
            _bearer("by another scheme", _token(aud="http://two")),
            _bearer("another", _token(aud="three")),
            _bearer("another, gRPC", _token(aud="three"), _GRPC),
            _bearer("none", _token()),
        ),
    ),
    Case(
        "tokens elsewhere",
        _authentication(
            _rule("fromHeaders: [{name: x-token, prefix: 'T '}, {name: x-bare}], fromParams: [t], fromCookies: [c]")
        ),
        (
            get("/", f"x-token: T {_token()}", name="in a header"),
            get("/", f"x-bare: {_token()}", name="in a header without prefix"),
            get("/", "x-bare: nonsense", name="bad in a header"),
            get("/", "x-token: nonsense", name="a header without the prefix"),
            get(f"/?t={_token()}", name="in a parameter"),
            get("/", f"cookie: a=b; c={_token()}; d=e", name="in a cookie"),
            get("/", "cookie: c=bad", name="bad in a cookie"),
            get("/", f"authorization: Bearer {_token()}", name="where nobody looks"),
            get("/?access_token=bad", name="bad where nobody looks"),
        ),
    ),
    Case(
        "tokens told upstream",
        _authentication(
            _rule(
                "forwardOriginalToken: true, outputPayloadToHeader: x-payload, outputClaimToHeaders: ["
                "{header: x-sub, claim: sub}, {header: x-n, claim: n}, {header: x-f, claim: f}, "
                "{header: x-b, claim: b}, {header: x-in, claim: o.in}, {header: x-list, claim: l}, "
                "{header: x-o, claim: o}, {header: x-none, claim: none}, {header: x-neg, claim: neg}, "
                "{header: x-big, claim: big}]"
            )
        ),
        (
            _bearer(
                "claims of every kind",
                _token(
                    n=5,
                    f=1.5,
                    b=True,
                    o={"in": "inside"},
                    l=["a", "b?>~~", 1.5, True, None],
                    neg=-3,
                    big=9007199254740993,
                ),
                "x-sub: smuggled",
                "x-none: smuggled",
                "x-payload: smuggled",
            ),
            _bearer("other claims", _token(n=1e20, f=-0.5, b=False, o={}, l=[], neg=0, sub="a b")),
            _bearer("claims with what is not ASCII", _token(sub="ä€", o={"ä": "€"}, l=[{"a": [1]}])),
            _bearer("a claim that would end the line", _token(sub="a\r\nx-admin: 1")),
            get("/", "x-sub: smuggled", "x-payload: smuggled", name="smuggled without a token"),
            get(f"/?access_token={_token()}", name="in the query"),
        ),
    ),
    Case(
        "tokens of two issuers",
        _authentication(_rule() + _rule("", "you", _jwks(_OTHER_SECRET, "k2"))),
        (
            get(),
            _bearer("of the first", _token()),
            _bearer("of the second", _token(iss="you", secret=_OTHER_SECRET, kid="k2")),
            _bearer("of neither", _token(iss="third")),
            _bearer("of the first, expired", _token(exp=_LONG_AGO)),
            _bearer("of the second by the first's key", _token(iss="you", kid="k2")),
        ),
    ),
    Case(
        "routes by claims",
        _authentication(
            _rule(),
            """
- match: [{headers: {'@request.auth.claims[group]': {exact: b}}}]
  route: [{destination: {host: b}}]
- match: [{headers: {'@request.auth.claims.o.in': {prefix: c}}}]
  route: [{destination: {host: c}}]
- match: [{withoutHeaders: {'@request.auth.claims[sub]': {regex: a.*}}, uri: {prefix: /not-a}}]
  directResponse: {status: 418}
- route: [{destination: {host: a}}]
""",
        ),
        (
            get(),
            get("/not-a"),
            _bearer("a text", _token(group="b")),
            _bearer("a list", _token(group=["x", "b"])),
            _bearer("another text", _token(group="bb")),
            _bearer("inside another", _token(o={"in": "c1"})),
            _bearer("not like this", _token(sub="bob"), target="/not-a"),
            _bearer("like this", _token(sub="alice"), target="/not-a"),
            _bearer("words of a scope", _token(scope="a b")),
        ),
    ),
)


def _policy(rules: str, action: str = "ALLOW", name: str = "p", extra: str = "") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: istio-system{extra}}}
spec:
  action: {action}
  rules: {rules}
"""


def _policies(name: str, exchanges: tuple[Exchange, ...], *policies: str) -> Case:
    return Case(name, _authentication(_rule(), _RULES, *policies), exchanges)


def _when(key: str, values: str) -> str:
    return f"[{{when: [{{key: '{key}', {values}}}]}}]"


_PATHS = (
    get("/admin"),
    get("/admin/x"),
    get("/admin?x=1"),
    get("/public"),
    get("/public/../admin"),
    get("/%61dmin"),
    get("/a/x/b/c/d"),
    get("/a//b"),
    get("/a/x%2fy/b"),
    get("/x.php"),
)
_METHODS = (get(), request("POST", "/"), request("DELETE", "/"), request("HEAD", "/"))
_HOSTS = (
    get(),
    get(host="EXAMPLE.com"),
    get(host="example.com:80"),
    get(host="www.example.com"),
    get(host="other.org"),
)
_USERS = (
    get(),
    _bearer("alice", _token()),
    _bearer("bob", _token(sub="bob")),
    _bearer("without a subject", _token(sub=None)),
    _bearer("with audiences and a presenter", _token(aud=["one", "two"], azp="app")),
    _bearer("with groups", _token(groups=["dev", "ops"], o={"in": "deep"}, scope="read write")),
    _bearer("with one group", _token(groups="dev", scope="read")),
    _bearer("with a number", _token(groups=7)),
)
_FROM = (get(), get("/", "x-forwarded-for: 9.9.9.9"))
_HEADERS = (
    get(),
    get("/", "x-t: a"),
    get("/", "x-t: ab"),
    get("/", "x-t: ba"),
    get("/", "x-t:"),
    get("/", "x-t: b", "x-t: a"),
)


_MATRIX: tuple[tuple[str, tuple[Exchange, ...]], ...] = (
    ("[]", (get(), get("/", _GRPC), get("/", "x-r: 1"), get("/", host="none.org"))),
    ("[{}]", (get(), get("/", "x-r: 1"), get("/", _GRPC))),
    ("[{to: [{operation: {paths: [/admin]}}]}]", _PATHS),
    ("[{to: [{operation: {paths: ['/admin*', '*.php']}}]}]", _PATHS),
    ("[{to: [{operation: {notPaths: ['/public*']}}]}]", _PATHS),
    ("[{to: [{operation: {paths: ['*']}}]}]", _PATHS[:2]),
    ("[{to: [{operation: {paths: ['/a/{*}/b/{**}', '/{*}']}}]}]", _PATHS),
    ("[{to: [{operation: {paths: ['/a/{**}']}}]}]", _PATHS),
    ("[{to: [{operation: {methods: [GET, P*]}}]}]", _METHODS),
    ("[{to: [{operation: {notMethods: [GET]}}]}]", _METHODS),
    ("[{to: [{operation: {methods: ['*'], paths: [/]}}, {operation: {paths: [/admin]}}]}]", (*_METHODS, *_PATHS[:2])),
    ("[{to: [{operation: {hosts: [example.com]}}]}]", _HOSTS),
    ("[{to: [{operation: {hosts: ['*.example.com', 'example.com*']}}]}]", _HOSTS),
    ("[{to: [{operation: {notHosts: [EXAMPLE.COM]}}]}]", _HOSTS),
    ("[{to: [{operation: {ports: ['80']}}]}]", (get(),)),
    ("[{to: [{operation: {notPorts: ['80', '81']}}]}]", (get(),)),
    ("[{from: [{source: {requestPrincipals: ['me/alice']}}]}]", _USERS),
    ("[{from: [{source: {requestPrincipals: ['*']}}]}]", _USERS),
    ("[{from: [{source: {requestPrincipals: ['me/*', '*/bob']}}]}]", _USERS),
    ("[{from: [{source: {requestPrincipals: ['*ce', 'm*']}}]}]", _USERS),
    ("[{from: [{source: {requestPrincipals: [me]}}]}]", _USERS),
    ("[{from: [{source: {notRequestPrincipals: ['*']}}]}]", _USERS),
    ("[{from: [{source: {principals: ['*']}}]}]", (get(),)),
    ("[{from: [{source: {notPrincipals: ['cluster.local/ns/a/sa/b']}}]}]", (get(),)),
    ("[{from: [{source: {namespaces: [default]}}, {source: {notNamespaces: ['d*']}}]}]", (get(),)),
    ("[{from: [{source: {serviceAccounts: [a, b/c]}}]}]", (get(),)),
    ("[{from: [{source: {notTrustDomains: ['*.local']}}]}]", (get(),)),
    ("[{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}]", _FROM),
    ("[{from: [{source: {ipBlocks: [127.0.0.9]}}]}]", _FROM),
    ("[{from: [{source: {notIpBlocks: [10.0.0.0/8, '::1']}}]}]", _FROM),
    ("[{from: [{source: {remoteIpBlocks: [127.0.0.0/24]}}]}]", _FROM),
    ("[{from: [{source: {remoteIpBlocks: [9.9.9.9]}}]}]", _FROM),
    ("[{from: [{source: {ipBlocks: [127.0.0.9]}}], to: [{operation: {methods: [GET]}}]}]", _METHODS),
    (_when("request.headers[x-t]", "values: [a]"), _HEADERS),
    (_when("request.headers[X-T]", "values: ['a*', '*c']"), _HEADERS),
    (_when("request.headers[x-t]", "values: ['*']"), _HEADERS),
    (_when("request.headers[x-t]", "notValues: [a]"), _HEADERS),
    (_when("source.ip", "values: [127.0.0.0/8]"), _FROM),
    (_when("remote.ip", "notValues: [9.9.9.0/24]"), _FROM),
    (_when("source.namespace", "values: [default]"), (get(),)),
    (_when("source.principal", "notValues: ['*']"), (get(),)),
    (_when("source.serviceAccount", "values: [default/a]"), (get(),)),
    (_when("source.trustDomain", "notValues: [cluster.local]"), (get(),)),
    (_when("request.auth.principal", "values: [me/alice]"), _USERS),
    (_when("request.auth.audiences", "values: [two]"), _USERS),
    (_when("request.auth.presenter", "values: [a*]"), _USERS),
    (_when("request.auth.claims[groups]", "values: [dev]"), _USERS),
    (_when("request.auth.claims[groups]", "notValues: [ops, x]"), _USERS),
    (_when("request.auth.claims[o][in]", "values: ['*ep']"), _USERS),
    (_when("request.auth.claims[scope]", "values: [write]"), _USERS),
    (_when("request.auth.claims[scope]", "values: ['read write']"), _USERS),
    (_when("destination.ip", "values: [127.0.0.1]"), (get(),)),
    (_when("destination.port", "values: ['80']"), (get(),)),
    (_when("connection.sni", "notValues: [a.example]"), (get(),)),
    (_when("connection.sni", "values: ['*']"), (get(),)),
)

_ADMIN = "[{to: [{operation: {paths: ['/admin*']}}]}]"
_SPELLED = (
    get("/admin"),
    get("//admin"),
    get("/x/%2e%2e/admin"),
    get("/x/..%2fadmin"),
    get("/x/..;/admin"),
    get("/x\\..\\admin"),
    get("/Admin"),
    get("/admin;x=1"),
    get("/%61dmin"),
    get("/adminx"),
)
_TOGETHER = (get(), get("/admin"), get("/admin/x"), get("/", "x-r: 1"), get("/admin", "x-r: 1"), get("/none"))

CASES = (
    *_TOKENS,
    *(
        _policies(f"{action} {rules}", exchanges, _policy(rules, action))
        for rules, exchanges in _MATRIX
        for action in ("ALLOW", "DENY")
        if not (action == "DENY" and rules == "[]")
    ),
    _policies("ALLOW and DENY", _TOGETHER, _policy("[{}]"), _policy(_ADMIN, "DENY", "q")),
    _policies("two that ALLOW", _TOGETHER, _policy(_ADMIN), _policy("[{to: [{operation: {paths: [/]}}]}]", name="q")),
    _policies("DENY, spelled otherwise", _SPELLED, _policy("[{to: [{operation: {paths: [/admin]}}]}]", "DENY")),
    _policies("AUDIT", _TOGETHER, _policy(_ADMIN, "AUDIT")),
    _policies("a dry run", _TOGETHER, _policy(_ADMIN, "DENY", extra=", annotations: {istio.io/dry-run: 'true'}")),
    _policies(
        "tokens are looked at first",
        (_bearer("bad", "x", target="/admin"), get("/admin")),
        _policy(_ADMIN, "DENY"),
    ),
)
