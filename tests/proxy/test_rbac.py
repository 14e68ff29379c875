"""Role-based access control: what holds, in whichever order and number, and what is told of it."""

from __future__ import annotations

import cProfile
import logging
import random
from collections import Counter
from collections.abc import Callable

import pytest

from meshproxy.proxy.filters.rbac import Engine, lenient_path, rbac
from meshproxy.proxy.http.failures import Failure
from meshproxy.proxy.http.message import Connection, Request, Response
from meshproxy.proxy.http.path import normalize
from meshproxy.snapshot import (
    AccessRule,
    AllOf,
    AnyRequest,
    Authenticated,
    Claim,
    DestinationIp,
    DirectRemoteIp,
    Exact,
    Not,
    OneOf,
    Prefix,
    Rbac,
    RbacAction,
    RbacFilter,
    RbacPolicy,
    Regex,
    RemoteIp,
    RequestedServerName,
    RequestHeader,
    Suffix,
    UriTemplate,
    UrlPath,
)

from .made import CONNECTION, Backend, made_request

ANY = (AnyRequest(),)


async def _refuse(request: Request, failure: Failure) -> Response:
    return failure.respond(request)


def policy(name: str, rule: AccessRule) -> RbacPolicy:
    return RbacPolicy(name, (rule,), ANY)


def denied(*rules: AccessRule, action: RbacAction = "DENY") -> Callable[[Request], bool]:
    engine = Engine(Rbac(action, tuple(policy(f"p{n}", rule) for n, rule in enumerate(rules))))
    return lambda request: not engine.allows(engine.find(request))


MTLS = Connection(
    b"10.1.2.3", "10.1.2.3:4", "[2001:db8::1]:80", (b"spiffe://cluster.local/ns/prod/sa/shop",), b"shop.example"
)


def mtls(**more: object) -> Request:
    return made_request(connection=MTLS, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (Authenticated(Exact("spiffe://cluster.local/ns/prod/sa/shop")), True),
        (Authenticated(Prefix("spiffe://cluster.local/")), True),
        (Authenticated(Regex(".*/ns/prod/.*")), True),
        (Authenticated(Regex(".*/ns/test/.*")), False),
        (Not(Authenticated(Regex(".*/ns/test/.*"))), True),
        (RequestedServerName(Suffix(".example")), True),
        (DirectRemoteIp("10.0.0.0/8"), True),
        (DirectRemoteIp("10.1.2.4"), False),
        (DirectRemoteIp("::/0"), False),
        (RemoteIp("10.1.2.3"), True),
        (DestinationIp("2001:db8::/32"), True),
        (DestinationIp("2001:db9::/32"), False),
    ],
)
def test_a_verified_peer_and_its_connection_are_known(rule: AccessRule, holds: bool) -> None:
    assert denied(rule)(mtls()) is holds


def test_a_plain_connection_has_no_identity() -> None:
    assert not denied(Authenticated(Regex(".*")))(made_request())
    assert denied(Not(Authenticated(Regex(".+"))))(made_request())


def test_the_client_and_the_other_end_of_the_connection_are_told_apart() -> None:
    request = made_request()
    request.peer = b"203.0.113.9"
    assert denied(RemoteIp("203.0.113.9"))(request)
    assert denied(DirectRemoteIp("192.0.2.7"))(request)
    assert not denied(DirectRemoteIp("203.0.113.9"))(request)


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "//admin",
        "///admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/%2E%2E/admin",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/x/..%2fadmin",
        "/x/..%2Fadmin",
        "/x\\..\\admin",
        "\\admin",
        "/%5cadmin",
        "/%61dmin",
        "/%2561dmin",
        "/x/%252e%252e/admin",
        "/%2fadmin",
        "/Admin",
        "/ADMIN",
        "/admin;jsessionid=1",
        "/admin?x=1",
        "/;/admin",
    ],
)
@pytest.mark.parametrize(
    "rule",
    [
        UrlPath(Exact("/admin")),
        UrlPath(Prefix("/adm")),
        UrlPath(Suffix("/admin")),
        UriTemplate("/admin"),
        UrlPath(Exact("/Admin")),
    ],
)
def test_no_spelling_of_a_path_passes_what_denies_it(path: str, rule: AccessRule) -> None:
    request = made_request(normalize(path.encode()))
    assert denied(rule)(request)
    assert denied(rule, *(UrlPath(Exact(f"/{n}")) for n in range(20)))(request)


@pytest.mark.parametrize("path", ["/public/..%2fadmin", "//admin", "/Public/x", "/x/..;/admin"])
def test_no_spelling_of_a_path_is_an_exception_to_what_denies_all_others(path: str) -> None:
    assert denied(Not(UrlPath(Prefix("/public/"))))(made_request(normalize(path.encode())))
    assert not denied(Not(UrlPath(Prefix("/public/"))))(made_request(b"/public/x"))


@pytest.mark.parametrize(
    "host", [b"a.example", b"A.Example", b"a.example:80", b"a.example:8080", b"a.example.", b"a.example.:1"]
)
def test_no_spelling_of_a_host_passes_what_denies_it(host: bytes) -> None:
    for match in (Exact("a.example"), Suffix(".example"), Exact("A.example")):
        rule = RequestHeader(":authority", match, ignore_case=True)
        others = (RequestHeader(":authority", Exact(f"h{n}"), ignore_case=True) for n in range(20))
        assert denied(rule)(made_request(authority=host))
        assert denied(rule, *others)(made_request(authority=host))
        assert not denied(Not(rule))(made_request(authority=b"a.example"))


def test_a_host_is_an_exception_to_what_denies_all_others_only_as_it_is_written() -> None:
    allowed = Not(RequestHeader(":authority", Exact("a.example"), ignore_case=True))
    assert denied(allowed)(made_request(authority=b"a.example:80"))
    by_port = RequestHeader(":authority", Exact("a.example:80"), ignore_case=True)
    assert [denied(by_port)(made_request(authority=one)) for one in (b"a.example:80", b"a.example:81")] == [True, False]


def test_what_is_allowed_is_allowed_by_the_path_as_it_is() -> None:
    not_allowed = denied(UrlPath(Exact("/open")), action="ALLOW")
    assert not not_allowed(made_request(b"/open"))
    for path in (b"//open", b"/Open", b"/open;a", b"/%2fopen"):
        assert not_allowed(made_request(path))


@pytest.mark.parametrize(
    ("path", "reading"),
    [
        (b"/a/b", b"/a/b"),
        (b"/A//b/", b"/a/b/"),
        (b"/a/..%2f..%2fb", b"/b"),
        (b"/a;x=1/b;y", b"/a/b"),
        (b"/%41%5c..%5cb", b"/b"),
        (b"/%25252561", b"/%2561"),
        (b"*", b"*"),
    ],
)
def test_the_most_lenient_reading_of_a_path(path: bytes, reading: bytes) -> None:
    assert lenient_path(path) == reading


def _random_rule(chance: random.Random, depth: int = 0) -> AccessRule:
    texts = ["a", "b", "ab", "/a", "/a/b", "/", "me"]
    kinds: list[type[Exact | Prefix | Suffix]] = [Exact, Prefix, Suffix]
    match = chance.choice(kinds)(chance.choice(texts))
    choices: list[Callable[[], AccessRule]] = [
        lambda: UrlPath(match),
        lambda: RequestHeader("x-h", match),
        lambda: RequestHeader(":authority", match, ignore_case=True),
        lambda: Claim(("sub",), (match, Exact("b"))),
        lambda: DirectRemoteIp(f"10.0.0.{chance.randrange(4)}/{chance.choice([30, 31, 32])}"),
        lambda: Authenticated(match),
        lambda: Authenticated(Regex(chance.choice([".*", ".*b", "/.+", "nobody"]))),
        lambda: UriTemplate(chance.choice(["/*", "/a/*", "/a/**", "/**", "/b", "/*/b", "/*/B/**", "/*/*/c", "/a/*/c"])),
        lambda: AnyRequest(),
    ]
    if depth < 3:
        inner = [_random_rule(chance, depth + 1) for _ in range(chance.randrange(1, 12 if depth == 0 else 4))]
        choices += [lambda: AllOf(tuple(inner)), lambda: OneOf(tuple(inner)), lambda: Not(inner[0])] * 2
    return chance.choice(choices)()


def _random_request(chance: random.Random) -> Request:
    texts = [b"a", b"b", b"ab", b"/a", b"/a/b", b"/", b"me"]
    connection = Connection(b"10.0.0.%d" % chance.randrange(4), "", "", (chance.choice(texts),))
    spelled = [b"A", b"a//b", b"a/B;x/c", b"x/b", b"x/b/c", b"a/b%2fc", b"a/x/../b"]
    request = made_request(
        b"/" + chance.choice([*texts, *spelled]).strip(b"/"),
        authority=chance.choice(texts),
        headers=[(b"x-h", chance.choice(texts)) for _ in range(chance.randrange(3))],
        connection=connection,
    )
    request.claims = {"sub": chance.choice(["a", "b", ["a", "me"], 1])}
    return request


@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_an_index_finds_what_trying_each_finds(action: RbacAction) -> None:
    chance = random.Random(7)
    for _ in range(60):
        policies = tuple(policy(f"p{n:02}", _random_rule(chance)) for n in range(30))
        engine = Engine(Rbac(action, policies))
        single = [Engine(Rbac(action, (one,))) for one in policies]
        for _ in range(20):
            request = _random_request(chance)
            first = next((one for one, alone in zip(policies, single, strict=True) if alone.find(request)), None)
            assert engine.find(request) is first


OF_MANY: dict[str, Callable[[int], AccessRule]] = {
    "paths": lambda n: UrlPath(Exact(f"/p{n:04}/x")),
    "beginnings": lambda n: UrlPath(Prefix(f"/p{n:04}/")),
    "ends": lambda n: UrlPath(Suffix(f"/p{n:04}/x")),
    "templates": lambda n: UriTemplate(f"/p{n:04}/*"),
    "templates that begin with an operator": lambda n: UriTemplate(f"/*/x{n:04}/**"),
    "hosts": lambda n: RequestHeader(":authority", Suffix(f".h{n:04}.example"), ignore_case=True),
    "headers": lambda n: RequestHeader("x-team", Exact(f"t{n:04}")),
    "subjects": lambda n: AllOf((Claim(("iss",), (Exact("me"),)), Claim(("sub",), (Exact(f"u{n:04}"),)))),
    "groups": lambda n: Claim(("groups",), (Exact(f"g{n:04}"), Exact(f"h{n:04}"))),
    "peers": lambda n: Authenticated(Exact(f"spiffe://td/ns/n/sa/s{n:04}")),
    "namespaces": lambda n: Authenticated(Regex(f".*/ns/n{n:04}/.*")),
    "networks": lambda n: DirectRemoteIp(f"10.{1 + n // 250}.{n % 250}.0/24"),
    "exceptions": lambda n: AllOf((Not(UrlPath(Exact("/free"))), UrlPath(Prefix(f"/p{n:04}/")))),
}


@pytest.mark.parametrize("of", OF_MANY)
def test_a_decision_takes_no_more_work_with_a_thousand_rules_than_with_ten(of: str) -> None:
    request = mtls(path=b"/p0005/x", authority=b"a.h0005.example", headers=[(b"x-team", b"t0005")])
    request.claims = {"iss": "me", "sub": "u0005", "groups": ["g0005", "x"]}
    assert calls_to_decide(of, 1000, request) <= calls_to_decide(of, 10, request)


def calls_to_decide(of: str, count: int, request: Request) -> int:
    """Of functions, Python's own included, for a request that has been seen before."""
    engine = Engine(Rbac("DENY", tuple(policy(f"p{n:04}", OF_MANY[of](n)) for n in range(count))))
    engine.find(request)
    with cProfile.Profile() as profile:
        engine.find(request)
    return sum(entry.callcount for entry in profile.getstats())


async def test_a_refused_request_is_told_why() -> None:
    backend, counts = Backend(), Counter[str]()
    config = RbacFilter(Rbac("DENY", (policy("ns[a]-policy[b]-rule[0]", UrlPath(Exact("/a"))),)))
    service = rbac([config], lambda name: counts.update([name]), _refuse, backend)
    request = made_request(b"/a")

    response = await service(request)
    await service(made_request(b"/b"))

    assert (response.status, response.body) == (403, b"RBAC: access denied")
    assert request.details == "rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]"
    assert request.flags == ""
    assert len(backend.requests) == 1
    assert counts == {"rbac_allowed": 1, "rbac_denied": 1}


async def test_what_nothing_allows_is_refused_by_no_policy() -> None:
    service = rbac([RbacFilter(Rbac("ALLOW", ()))], lambda name: None, _refuse, Backend())
    request = made_request()
    assert (await service(request)).status == 403
    assert request.details == "rbac_access_denied_matched_policy[none]"


async def test_a_dry_run_only_counts() -> None:
    backend, counts = Backend(), Counter[str]()
    config = RbacFilter(shadow_rules=Rbac("DENY", (policy("p", UrlPath(Exact("/a"))),)))
    service = rbac([config], lambda name: counts.update([name]), _refuse, backend)
    for path in (b"/a", b"/b"):
        assert (await service(made_request(path))).status == 200
    assert counts == {"rbac_shadow_denied": 1, "rbac_shadow_allowed": 1}


async def test_an_audit_tells_of_a_request_without_its_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "meshproxy.audit")
    service = rbac([RbacFilter(Rbac("LOG", (policy("p", AnyRequest()),)))], lambda name: None, _refuse, Backend())
    request = made_request(b"/a?access_token=hush", headers=[(b"authorization", b"Bearer hush")])
    assert (await service(request)).status == 200
    assert caplog.messages == ["192.0.2.7 GET h.example /a p"]
    assert CONNECTION.peer == b"192.0.2.7"
