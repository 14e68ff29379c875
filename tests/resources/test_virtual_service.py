"""The rules of a VirtualService: what is accepted, and what is refused, where and why."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from meshproxy.resources import HTTPRoute, Loaded, VirtualService, load

Complaints = Callable[[str, str], list[tuple[str, str]]]

ROUTE = "route: [{destination: {host: b}}]"


def rule(text: str) -> str:
    return f"{{hosts: [a], http: [{{{text}}}]}}"


def match(text: str) -> str:
    return rule(f"match: [{{{text}}}], {ROUTE}")


def retries(text: str) -> str:
    return rule(f"{ROUTE}, retries: {text}")


def fault(text: str) -> str:
    return rule(f"{ROUTE}, fault: {text}")


def cors(text: str) -> str:
    return rule(f"{ROUTE}, corsPolicy: {text}")


def parsed(text: str) -> HTTPRoute:
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\n"
    loaded: Loaded = load(["-"], stdin=io.StringIO(f"{head}spec: {rule(text)}"))
    assert loaded.problems == ()
    return loaded.of(VirtualService)[0].spec.http[0]


ACCEPTED = [
    rule(ROUTE),
    rule("route: [{destination: {host: b}, weight: 0}]"),
    rule("route: [{destination: {host: b, subset: v1, port: {number: 80}}}]"),
    rule("route: [{destination: {host: b}, weight: 1}, {destination: {host: c}}]"),
    match('uri: {prefix: ""}'),
    match('uri: {regex: "/v[0-9]+/.*"}, ignoreUriCase: true, name: any, port: 80'),
    match("scheme: {exact: http}, method: {exact: GET}, authority: {prefix: a.}"),
    match("headers: {x-a: {}, ':method': {exact: GET}}, queryParams: {q: {}, r: {regex: a+}}"),
    match('withoutHeaders: {x-a: {}, x-b: {regex: "*"}, x-c: {exact: c}}'),
    match("gateways: [mesh, ns/gw, gw, gw.ns.svc.cluster.local], sourceLabels: {app: a}, sourceNamespace: n"),
    rule("redirect: {uri: /x}"),
    rule("redirect: {port: 8443, scheme: https, redirectCode: 308}"),
    rule("redirect: {derivePort: FROM_REQUEST_PORT, authority: b}"),
    rule("match: [{uri: {prefix: /a}}, {port: 1}], redirect: {prefixRewrite: /b}"),
    rule("directResponse: {status: 503}"),
    rule("directResponse: {status: 200, body: {string: hello}}"),
    rule("delegate: {name: other, namespace: ns}, match: [{uri: {prefix: /a}}]"),
    rule(f"{ROUTE}, rewrite: {{uri: /, authority: b}}"),
    rule(f"{ROUTE}, rewrite: {{uriRegexRewrite: {{match: '/a(.*)', rewrite: '/b\\1'}}}}"),
    rule(f"{ROUTE}, rewrite: {{uriRegexRewrite: {{match: '/a', rewrite: '/b\\0\\\\'}}}}"),
    rule("redirect: {uri: '/a%20b?q=1', authority: '[::1]:8080'}"),
    rule(f"{ROUTE}, headers: {{request: {{set: {{Host: b, x: '%REQ(:path)% 100%%'}}, remove: [y]}}}}"),
    rule(f"{ROUTE}, headers: {{response: {{add: {{x: '%START_TIME(%s):10%'}}}}}}"),
    rule(f"{ROUTE}, retries: {{}}"),
    rule(f"{ROUTE}, retries: {{attempts: 0}}, timeout: 0s"),
    f"{{http: [{{{ROUTE}}}]}}",
    f"{{hosts: ['*'], gateways: [gw], http: [{{{ROUTE}}}]}}",
    f"{{hosts: [10.0.0.1, '*.a.com', a.com], exportTo: [., other], http: [{{{ROUTE}}}]}}",
]


@pytest.mark.parametrize("spec", ACCEPTED)
def test_this_is_accepted(complaints: Complaints, spec: str) -> None:
    assert complaints("VirtualService", spec) == []


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ("{hosts: [a]}", "", "has no rules; give http"),
        (f"{{hosts: [a, 'b*c'], http: [{{{ROUTE}}}]}}", "hosts[1]", "'*' may only stand at its start"),
        (f"{{hosts: [a, b, a], http: [{{{ROUTE}}}]}}", "hosts[2]", "is in the list twice"),
        (f"{{hosts: ['*.b.com', a.b.com], http: [{{{ROUTE}}}]}}", "hosts[1]", "cover the same hosts"),
        (f"{{hosts: ['*'], http: [{{{ROUTE}}}]}}", "hosts[0]", "'*' cannot be for all the mesh"),
        (
            f"{{hosts: ['*'], gateways: [g, mesh], http: [{{{ROUTE}}}]}}",
            "hosts[0]",
            "'*' cannot be for all the mesh",
        ),
        (f"{{gateways: [g], http: [{{{ROUTE}}}]}}", "gateways", "without hosts is one to delegate to"),
        ("{http: [{delegate: {name: d}}]}", "http[0].delegate", "cannot delegate on"),
        (f"{{hosts: [a], gateways: [a/b/c], http: [{{{ROUTE}}}]}}", "gateways[0]", "write namespace/name"),
        (f"{{hosts: [a], gateways: [a_b], http: [{{{ROUTE}}}]}}", "gateways[0]", "write namespace/name"),
        (f"{{hosts: [a], exportTo: ['~'], http: [{{{ROUTE}}}]}}", "exportTo[0]", "is for ServiceEntry alone"),
        (f"{{hosts: [a], exportTo: [., default], http: [{{{ROUTE}}}]}}", "exportTo[1]", "already has"),
        (f"{{hosts: [a], exportTo: [b, '*'], http: [{{{ROUTE}}}]}}", "exportTo[1]", "has to stand alone"),
        (rule(""), "http[0]", "give route, redirect, directResponse or delegate"),
        (rule(f"{ROUTE}, redirect: {{uri: /}}"), "http[0]", "not route and redirect"),
        (rule(f"{ROUTE}, delegate: {{name: d}}"), "http[0]", "not route and delegate"),
        (rule("redirect: {uri: /}, rewrite: {uri: /}"), "http[0].rewrite", "nothing does beside redirect"),
        (
            rule("directResponse: {status: 200}, rewrite: {uri: /}"),
            "http[0].rewrite",
            "beside directResponse",
        ),
        (rule("redirect: {}"), "http[0].redirect", "leads nowhere"),
        (rule("redirect: {uri: /, prefixRewrite: /}"), "http[0].redirect", "not both"),
        (rule("redirect: {port: 1, derivePort: FROM_REQUEST_PORT}"), "http[0].redirect", "not both"),
        (
            rule("redirect: {uri: /, redirectCode: 304}"),
            "http[0].redirect.redirectCode",
            "expected one of 301, 302",
        ),
        (rule("redirect: {scheme: ftp}"), "http[0].redirect.scheme", "is not one of http, https"),
        (
            rule("match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /b}"),
            "http[0].match[0].uri",
            "match the uri by prefix",
        ),
        (rule("directResponse: {status: 600}"), "http[0].directResponse.status", "the most is 599"),
        (rule("directResponse: {}"), "http[0].directResponse.status", "is required"),
        (
            rule("directResponse: {status: 200, body: {string: a, bytes: YQ==}}"),
            "http[0].directResponse.body",
            "not both",
        ),
        (
            rule("directResponse: {status: 200, body: {bytes: '?'}}"),
            "http[0].directResponse.body.bytes",
            "not base64",
        ),
        (rule("delegate: {name: ''}"), "http[0].delegate.name", "cannot be empty"),
        (rule(f"{ROUTE}, rewrite: {{}}"), "http[0].rewrite", "rewrites nothing"),
        (
            rule(f"{ROUTE}, rewrite: {{uri: /, uriRegexRewrite: {{match: a, rewrite: b}}}}"),
            "http[0].rewrite",
            "not both",
        ),
        (
            rule(f"{ROUTE}, rewrite: {{uriRegexRewrite: {{match: '(', rewrite: a}}}}"),
            "http[0].rewrite.uriRegexRewrite.match",
            "missing )",
        ),
        (
            rule(f"{ROUTE}, rewrite: {{authority: a}}, headers: {{request: {{set: {{host: b}}}}}}"),
            "http[0].headers.request.set.host",
            "already changed",
        ),
        (
            rule(f"{ROUTE}, headers: {{response: {{set: {{Host: b}}}}}}"),
            "http[0].headers.response.set.Host",
            "only be set in a request",
        ),
        (
            rule(f"{ROUTE}, headers: {{request: {{remove: [':path']}}}}"),
            "http[0].headers.request.remove[0]",
            "pseudo-header",
        ),
        (
            rule(f"{ROUTE}, headers: {{request: {{add: {{a: 50%}}}}}}"),
            "http[0].headers.request.add.a",
            "write %% for a percent sign",
        ),
        (
            rule(f'{ROUTE}, headers: {{request: {{add: {{a: "x\\ny"}}}}}}'),
            "http[0].headers.request.add.a",
            "control character",
        ),
        (
            rule(f"{ROUTE}, headers: {{request: {{add: {{a b: c}}}}}}"),
            'http[0].headers.request.add["a b"]',
            "is not a header name",
        ),
        (rule('redirect: {uri: "/x\\r\\nset-cookie: z"}'), "http[0].redirect.uri", "holds '\\r'"),
        (rule("redirect: {uri: /a b}"), "http[0].redirect.uri", "write it as %20"),
        (rule('redirect: {prefixRewrite: "/x\\n"}'), "http[0].redirect.prefixRewrite", "write it as %0A"),
        (rule('redirect: {authority: "h\\r\\nset-cookie: z"}'), "http[0].redirect.authority", "not an authority"),
        (rule("redirect: {authority: user@h}"), "http[0].redirect.authority", "write a host, or host:port"),
        (rule(f'{ROUTE}, rewrite: {{uri: "/y z HTTP/1.1\\r\\n"}}'), "http[0].rewrite.uri", "write it as %20"),
        (rule(f"{ROUTE}, rewrite: {{uri: /é}}"), "http[0].rewrite.uri", "write it as %C3%A9"),
        (rule(f"{ROUTE}, rewrite: {{authority: h evil}}"), "http[0].rewrite.authority", "without spaces"),
        (
            rule(f"{ROUTE}, headers: {{request: {{set: {{host: h evil}}}}}}"),
            "http[0].headers.request.set.host",
            "not an authority",
        ),
        (
            rule(f"{ROUTE}, rewrite: {{uriRegexRewrite: {{match: '(a)', rewrite: '/a b\\1'}}}}"),
            "http[0].rewrite.uriRegexRewrite.rewrite",
            "write it as %20",
        ),
        (
            rule(f"{ROUTE}, rewrite: {{uriRegexRewrite: {{match: '(a)(b)', rewrite: '/\\3'}}}}"),
            "http[0].rewrite.uriRegexRewrite.rewrite",
            "a group that match does not have; it has 2 groups",
        ),
        (
            rule(f"{ROUTE}, rewrite: {{uriRegexRewrite: {{match: a, rewrite: '/\\n'}}}}"),
            "http[0].rewrite.uriRegexRewrite.rewrite",
            "stands before a group's number only",
        ),
        (
            rule("route: [{destination: {host: '*'}}]"),
            "http[0].route[0].destination.host",
            "is no destination",
        ),
        (rule("route: [{destination: {host: ''}}]"), "http[0].route[0].destination.host", "is empty"),
        (rule("route: [{weight: 1}]"), "http[0].route[0].destination", "is required"),
        (rule("route: [{destination: {host: b}, weight: -1}]"), "http[0].route[0].weight", "the least is 0"),
        (
            rule("route: [{destination: {host: b, port: {number: 0}}}]"),
            "http[0].route[0].destination.port.number",
            "least is 1",
        ),
        (
            rule("route: [{destination: {host: b, subset: a.b}}]"),
            "http[0].route[0].destination.subset",
            "is not a name",
        ),
        (
            rule("route: [{destination: {host: b}}, {destination: {host: c}}]"),
            "http[0].route",
            "the weights of the destinations add up to 0",
        ),
        (match("uri: {}"), "http[0].match[0].uri", "give one of exact, prefix or regex"),
        (match("uri: {exact: a, prefix: b}"), "http[0].match[0].uri", "not exact and prefix"),
        (match("uri: {regex: '[a'}"), "http[0].match[0].uri.regex", "missing ]"),
        (match("uri: {regex: '(?=a)'}"), "http[0].match[0].uri.regex", "is not a regular expression of RE2"),
        (match("uri: {regex: ''}"), "http[0].match[0].uri.regex", "cannot be empty"),
        (match(f"uri: {{regex: {'a' * 1025}}}"), "http[0].match[0].uri.regex", "1024 are the most"),
        (match(r"uri: {regex: '\x{100}'}"), "http[0].match[0].uri.regex", "is not a regular expression of RE2"),
        (match(f"uri: {{regex: '{'(a{1,900})' * 40}'}}"), "http[0].match[0].uri.regex", "32768 are the most"),
        (match("method: {prefix: ''}"), "http[0].match[0].method.prefix", "an empty prefix matches anything"),
        (
            match("headers: {x: {prefix: ''}}"),
            "http[0].match[0].headers.x.prefix",
            "an empty prefix matches anything",
        ),
        (
            match("headers: {x: {regex: '*'}}"),
            "http[0].match[0].headers.x.regex",
            "is not a regular expression",
        ),
        (match("headers: {'a b': {}}"), 'http[0].match[0].headers["a b"]', "is not a header name"),
        (match("headers: {x: }"), "http[0].match[0].headers.x", "has no value"),
        (
            match("headers: {'@request.auth.claims': {exact: a}}"),
            'http[0].match[0].headers["@request.auth.claims"]',
            "names no claim; write it as @request.auth.claims[groups]",
        ),
        (match("sourceNamespace: a.b"), "http[0].match[0].sourceNamespace", "is not a name"),
        (match("sourceLabels: {a: b c}"), "http[0].match[0].sourceLabels.a", "is not a label value"),
        (match("port: 65536"), "http[0].match[0].port", "the most is 65535"),
        (match("ignoreUriCase: 'true'"), "http[0].match[0].ignoreUriCase", "remove the quotes"),
        (rule(f"{ROUTE}, timeout: 5"), "http[0].timeout", "5 has no unit"),
        (rule(f"{ROUTE}, timeout: 1us"), "http[0].timeout", "at least 1ms"),
        (rule(f"{ROUTE}, timeout: 1.5ms"), "http[0].timeout", "exact to the millisecond"),
        (retries("{attempts: -1}"), "http[0].retries.attempts", "the least is 0"),
        (retries("{attempts: 1, perTryTimeout: 0s}"), "http[0].retries.perTryTimeout", "at least 1ms"),
        (retries("{attempts: 1, backoff: 5}"), "http[0].retries.backoff", "5 has no unit"),
        (retries("{attempts: 1, retryOn: '5xx, 503'}"), "http[0].retries.retryOn", "' 503' is no condition"),
        (retries("{attempts: 1, retryOn: often}"), "http[0].retries.retryOn", "'often' is no condition"),
        (retries("{attempts: 1, retryOn: '999'}"), "http[0].retries.retryOn", "'999' is no condition"),
        (retries("{retryOn: 5xx}"), "http[0].retries.retryOn", "without attempts there are no retries"),
        (retries("{perTryTimeout: 1s}"), "http[0].retries.perTryTimeout", "without attempts there are no retries"),
        (
            retries("{attempts: 0, retryRemoteLocalities: false}"),
            "http[0].retries.retryRemoteLocalities",
            "without attempts there are no retries",
        ),
        (fault("{}"), "http[0].fault", "injects no fault; give delay or abort"),
        (fault("{delay: {percent: 1}}"), "http[0].fault.delay", "says not how long; give fixedDelay"),
        (fault("{delay: {fixedDelay: 5}}"), "http[0].fault.delay.fixedDelay", "5 has no unit"),
        (fault("{delay: {fixedDelay: 0s}}"), "http[0].fault.delay.fixedDelay", "at least 1ms"),
        (fault("{delay: {fixedDelay: 1s, percent: 101}}"), "http[0].fault.delay.percent", "the most is 100"),
        (fault("{delay: {exponentialDelay: 1s}}"), "http[0].fault.delay.exponentialDelay", "use fixedDelay"),
        (fault("{abort: {percentage: {value: 1}}}"), "http[0].fault.abort", "give httpStatus or grpcStatus"),
        (fault("{abort: {httpStatus: 199}}"), "http[0].fault.abort.httpStatus", "the least is 200"),
        (fault("{abort: {httpStatus: 600}}"), "http[0].fault.abort.httpStatus", "the most is 599"),
        (fault("{abort: {httpStatus: 500, grpcStatus: OK}}"), "http[0].fault.abort", "not both"),
        (fault("{abort: {grpcStatus: Ok}}"), "http[0].fault.abort.grpcStatus", "'Ok' is not one of OK, CANCELLED"),
        (fault("{abort: {http2Error: REFUSED}}"), "http[0].fault.abort.http2Error", "use httpStatus or grpcStatus"),
        (
            fault("{abort: {httpStatus: 500, percentage: {value: 101}}}"),
            "http[0].fault.abort.percentage.value",
            "the most is 100",
        ),
        (
            fault("{abort: {httpStatus: 500, percentage: {value: 0.00001}}}"),
            "http[0].fault.abort.percentage.value",
            "neither 0 nor at least 0.0001",
        ),
        (cors("{allowOrigins: [{exact: ''}]}"), "http[0].corsPolicy.allowOrigins[0].exact", "no origin is empty"),
        (cors("{allowOrigins: [{}]}"), "http[0].corsPolicy.allowOrigins[0]", "give one of exact, prefix or regex"),
        (cors("{allowOrigins: [{regex: '('}]}"), "http[0].corsPolicy.allowOrigins[0].regex", "regular expression"),
        (cors("{allowMethods: [get]}"), "http[0].corsPolicy.allowMethods[0]", "'get' is not one of GET, HEAD"),
        (cors("{allowHeaders: ['a b']}"), "http[0].corsPolicy.allowHeaders[0]", "is not a header name"),
        (cors("{exposeHeaders: ['']}"), "http[0].corsPolicy.exposeHeaders[0]", "is not a header name"),
        (cors("{maxAge: 1500ms}"), "http[0].corsPolicy.maxAge", "whole seconds"),
        (rule(f"{ROUTE}, mirrorPercentage: {{value: 5}}"), "http[0].mirrorPercentage", "`mirror`, which is not given"),
        (rule(f"{ROUTE}, mirror_percent: 5"), "http[0].mirrorPercent", "`mirror`, which is not given"),
        (rule(f"{ROUTE}, mirror: {{host: c}}, mirror_percent: 101"), "http[0].mirror_percent", "the most is 100"),
        (
            rule(f"{ROUTE}, mirror: {{host: c}}, mirrors: [{{destination: {{host: c}}}}]"),
            "http[0].mirror",
            "give one of mirror and mirrors",
        ),
        (rule(f"{ROUTE}, mirrors: [{{percentage: {{value: 5}}}}]"), "http[0].mirrors[0].destination", "is required"),
        (rule("redirect: {uri: /x}, corsPolicy: {}"), "http[0].corsPolicy", "nothing does beside redirect"),
        (rule("directResponse: {status: 200}, mirror: {host: c}"), "http[0].mirror", "beside directResponse"),
        (match("url: {exact: /}"), "http[0].match[0].url", "did you mean 'uri'?"),
        (match("destination: {host: a}"), "http[0].match[0].destination", "unknown field"),
        (match("route: []"), "http[0].match[0].route", "'route' belongs one level up"),
        (
            rule(f"{ROUTE}, uri: {{exact: /}}"),
            "http[0].uri",
            "'uri' belongs inside match or redirect or rewrite",
        ),
    ],
)
def test_this_is_refused(complaints: Complaints, spec: str, path: str, message: str) -> None:
    problems = complaints("VirtualService", spec)
    assert [found for found, _ in problems] == [path if path else "spec"]
    assert message in problems[0][1]


def test_a_value_that_is_unsupported_and_malformed_is_one_problem(complaints: Complaints) -> None:
    spec = "{host: a, trafficPolicy: {connectionPool: {http: {maxConcurrentStreams: many}}}}"
    [(path, message)] = complaints("DestinationRule", spec)
    assert path == "trafficPolicy.connectionPool.http.maxConcurrentStreams"
    assert message.startswith("not supported yet: ")
    assert "besides, expected a whole number, got the text 'many'" in message


def test_routing_of_other_protocols_is_not_supported_yet(complaints: Complaints) -> None:
    problems = complaints(
        "VirtualService",
        "{hosts: [a], tcp: [{route: [{destination: {host: b}}]}], tls: [{match: [{sniHosts: [a]}], "
        "route: [{destination: {host: b}}]}]}",
    )
    assert [(path, message.split(":")[0]) for path, message in problems] == [
        ("tcp", "not supported yet"),
        ("tls", "not supported yet"),
    ]


def test_an_unsupported_field_stands_at_its_key_and_an_unsupported_value_at_itself() -> None:
    text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec:\n  host: a\n"
    text += "  trafficPolicy:\n    connectionPool: {http: {useClientProtocol: true}}\n    tunnel:\n"
    text += "      targetHost: a.b\n      targetPort: 1\n"
    positions = [problem.position[1:] for problem in load(["-"], stdin=io.StringIO(text)).problems]
    assert positions == [(7, 48), (8, 5)]


def test_an_unknown_field_stands_at_its_key_and_a_missing_one_at_its_parent() -> None:
    text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n  hosts: [a]\n"
    text += "  http:\n  - route:\n    - destination:\n        hots: b\n"
    problems = load(["-"], stdin=io.StringIO(text)).problems
    assert [(p.position[1:], p.path.rpartition(".")[2]) for p in problems] == [
        ((9, 9), "host"),
        ((9, 9), "hots"),
    ]


def test_star_as_the_regex_of_an_absent_header_means_presence() -> None:
    [condition] = parsed(f"match: [{{withoutHeaders: {{x: {{regex: '*'}}}}}}], {ROUTE}").match
    assert condition.without_headers["x"].regex is None


def test_a_body_of_bytes_is_decoded() -> None:
    response = parsed("directResponse: {status: 200, body: {bytes: aGk=}}").direct_response
    assert response is not None
    assert response.body is not None
    assert response.body.bytes == b"hi"


def test_a_model_prints_what_was_written() -> None:
    assert repr(parsed(ROUTE)) == "HTTPRoute(route=(HTTPRouteDestination(destination=Destination(host='b')),))"
