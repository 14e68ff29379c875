"""Every condition of a VirtualService's `http` rule, met and nearly met."""

from __future__ import annotations

from ..exchanges import Case, Exchange, exchange, get, head, request, rules


def _asks(name: str, condition: str, *exchanges: Exchange) -> Case:
    """A rule that sends what meets `condition` to `a`, and another that sends the rest to `b`."""
    yaml = f"""
- match: [{condition}]
  route: [{{destination: {{host: a}}}}]
- route: [{{destination: {{host: b}}}}]
"""
    return Case(name, rules(yaml), exchanges)


_BOTH = exchange("two fields of the name", head("/", "x-user: other", "x-user: jason"))

CASES = (
    _asks(
        "uri exact",
        "{uri: {exact: /a/b}}",
        *map(get, ("/a/b", "/a/b?x=1", "/a/b/", "/a/B", "/a/b/c", "/a", "/a/b?", "/a/%62", "/a//b", "/x/../a/b")),
    ),
    _asks(
        "uri exact, whatever the case",
        "{uri: {exact: /a/B}, ignoreUriCase: true}",
        *map(get, ("/a/b", "/A/B", "/a/bc", "/a/b?Q=/x")),
    ),
    _asks(
        "uri prefix",
        "{uri: {prefix: /pre}}",
        *map(get, ("/pre", "/prefix", "/pre/x", "/pr", "/PRE", "/x/pre", "/?/pre", "/%70re")),
    ),
    _asks(
        "uri prefix, whatever the case",
        "{uri: {prefix: /Pre/}, ignoreUriCase: true}",
        *map(get, ("/pre/", "/PRE/x", "/pre", "/%50RE/x")),
    ),
    _asks(
        "uri prefix with a query",
        "{uri: {prefix: '/pre?x'}}",
        *map(get, ("/pre?x", "/pre", "/pre?xy")),
    ),
    _asks(
        "uri regex",
        r"{uri: {regex: '/(v1|v2)/\d+'}}",
        *map(get, ("/v1/7", "/v2/77", "/v3/7", "/v1/7/x", "/v1/", "/v1/7?x", "/V1/7", "/x/v1/7")),
    ),
    _asks("uri regex of anything", "{uri: {regex: '.*'}}", get("/"), get("/a?b")),
    _asks("uri regex, case by flag", "{uri: {regex: '(?i)/abc'}}", get("/ABC"), get("/abd")),
    _asks("uri regex with the query", r"{uri: {regex: '/a\?b'}}", get("/a?b"), get("/a%3Fb")),
    _asks(
        "method",
        "{method: {exact: POST}}",
        *(request(method, "/") for method in ("POST", "PUT", "GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE")),
    ),
    _asks("method regex", "{method: {regex: 'P.*'}}", *(request(method, "/") for method in ("POST", "PUT", "GET"))),
    _asks(
        "header exact",
        "{headers: {x-user: {exact: jason}}}",
        get("/"),
        get("/", "x-user: jason"),
        get("/", "X-USER: jason"),
        get("/", "x-user:jason"),
        get("/", "x-user:   jason  "),
        get("/", "x-user: Jason"),
        get("/", "x-user: jason2"),
        get("/", "x-user: jaso"),
        get("/", "x-user:"),
        get("/", "x-users: jason"),
        get("/", "x-user: jason, other"),
        _BOTH,
    ),
    _asks(
        "header prefix",
        "{headers: {x-user: {prefix: ja}}}",
        *(get("/", f"x-user: {value}") for value in ("ja", "jason", "j", "", "Ja", "xja")),
        get("/"),
        _BOTH,
    ),
    _asks(
        "header regex",
        "{headers: {x-user: {regex: 'ja.*n|'}}}",
        *(get("/", f"x-user: {value}") for value in ("jan", "jason", "jason2", "", "Jan", "ja\xe9n")),
        get("/"),
        _BOTH,
    ),
    _asks(
        "header present",
        "{headers: {x-user: {}}}",
        get("/"),
        get("/", "x-user: jason"),
        get("/", "x-user:"),
        _BOTH,
    ),
    _asks(
        "without a header",
        "{withoutHeaders: {x-user: {}}}",
        get("/"),
        get("/", "x-user: jason"),
        get("/", "x-user:"),
    ),
    _asks(
        "without a header's value",
        "{withoutHeaders: {x-user: {exact: jason}}}",
        get("/"),
        get("/", "x-user: jason"),
        get("/", "x-user: other"),
        get("/", "x-user:"),
        _BOTH,
    ),
    _asks(
        "without what a header begins with",
        "{withoutHeaders: {x-user: {regex: 'j.*'}}}",
        get("/"),
        get("/", "x-user: jason"),
        get("/", "x-user: other"),
    ),
    _asks(
        "several headers",
        "{headers: {x-user: {exact: u}, x-role: {prefix: r}}}",
        get("/", "x-user: u", "x-role: r1"),
        get("/", "x-user: u"),
        get("/", "x-role: r"),
        get("/", "x-user: u", "x-role: s"),
    ),
    _asks(
        "headers that Envoy knows",
        "{headers: {user-agent: {prefix: curl}, accept: {exact: '*/*'}}}",
        get("/", "user-agent: curl/8", "accept: */*"),
        get("/", "user-agent: wget", "accept: */*"),
        get("/", "user-agent: curl/8", "accept: text/plain"),
    ),
    *(
        _asks(
            f"two fields of {name}, {expected}",
            f"{{headers: {{{name}: {{exact: '{expected}'}}}}}}",
            get("/", f"{name}: a", f"{name}: b"),
            get("/", f"{name}: b", f"{name}: a"),
        )
        for name in ("accept", "cookie")
        for expected in ("a", "a,b")
    ),
    _asks("pseudo header :method", "{headers: {':method': {exact: POST}}}", get("/"), request("POST", "/")),
    _asks("pseudo header :path", "{headers: {':path': {prefix: '/x?q'}}}", get("/x"), get("/x?q"), get("/y/../x?q=1")),
    _asks(
        "pseudo header :authority",
        "{headers: {':authority': {exact: 'example.com:80'}}}",
        get("/"),
        get("/", host="example.com:80"),
    ),
    _asks("host", "{headers: {host: {exact: 'example.com:80'}}}", get("/"), get("/", host="example.com:80")),
    _asks(
        "upgrade",
        "{headers: {upgrade: {exact: websocket}}}",
        get("/"),
        get("/", "connection: upgrade", "upgrade: websocket"),
        get("/", "upgrade: websocket"),
    ),
    _asks(
        "cookie",
        "{headers: {cookie: {regex: '^(.*?;)?\\s*(user=jason)(;.*)?$'}}}",
        get("/", "cookie: user=jason"),
        get("/", "cookie: a=b; user=jason; c=d"),
        get("/", "cookie: user=jason2"),
        get("/", "cookie: a=b", "cookie: user=jason"),
    ),
    _asks(
        "authority exact",
        "{authority: {exact: example.com}}",
        get("/"),
        get("/", host="example.com:80"),
        get("/", host="EXAMPLE.com"),
    ),
    _asks(
        "authority prefix",
        "{authority: {prefix: 'example.com:'}}",
        get("/"),
        get("/", host="example.com:80"),
    ),
    _asks("scheme", "{scheme: {exact: http}}", get("/"), get("/", "x-forwarded-proto: https")),
    _asks("scheme https", "{scheme: {exact: https}}", get("/"), get("/", "x-forwarded-proto: https")),
    _asks("port", "{port: 80}", get("/"), get("/", host="example.com:81")),
    _asks("another port", "{port: 81}", get("/"), get("/", host="example.com:81")),
    _asks(
        "query parameter exact",
        "{queryParams: {q: {exact: '1'}}}",
        *map(
            get,
            (
                *("/?q=1", "/?q=2", "/?q=", "/?q", "/", "/?Q=1", "/?q=1&q=2", "/?q=2&q=1", "/?x&q=1", "/?q=%31"),
                *("/?%71=1", "/?q=1;x", "/?q=1#", "/?qq=1", "/?=1", "/?q=1?q=2", "/?&&q=1", "/?q==1"),
            ),
        ),
    ),
    _asks(
        "query parameter regex",
        r"{queryParams: {q: {regex: '\d+'}}}",
        *map(get, ("/?q=12", "/?q=1a", "/?q=")),
    ),
    _asks(
        "query parameter prefix",
        "{queryParams: {q: {prefix: 'a'}}}",
        *map(get, ("/?q=ab", "/?q=b", "/?q=%61")),
    ),
    _asks(
        "query parameter present",
        "{queryParams: {q: {}}}",
        *map(get, ("/?q=12", "/?q", "/?r", "/")),
    ),
    _asks(
        "all together",
        "{uri: {prefix: /a}, method: {exact: GET}, headers: {x: {exact: '1'}}, queryParams: {q: {exact: '1'}}}",
        get("/a?q=1", "x: 1"),
        get("/b?q=1", "x: 1"),
        get("/a?q=2", "x: 1"),
        get("/a?q=1", "x: 2"),
        request("PUT", "/a?q=1", "x: 1"),
    ),
    _asks(
        "any of several",
        "{uri: {exact: /a}}, {headers: {x: {exact: '1'}}}",
        get("/a"),
        get("/b", "x: 1"),
        get("/b"),
    ),
    Case(
        "the first rule wins",
        rules("""
- match: [{uri: {prefix: /a/b}}]
  route: [{destination: {host: a}}]
- match: [{uri: {prefix: /a}}]
  route: [{destination: {host: b}}]
- match: [{uri: {exact: /a/b/c}}]
  route: [{destination: {host: c}}]
"""),
        (get("/a/b/c"), get("/a/c"), get("/a"), get("/b")),
    ),
)
