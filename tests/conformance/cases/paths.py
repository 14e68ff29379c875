"""Paths: what becomes of dots, escapes and slashes before anything else looks at them; and their rewriting."""

from __future__ import annotations

from pathlib import Path

from ..exchanges import Case, get, routed, rules

_INPUTS = [
    line.partition("\t")[0]
    for line in (Path(__file__).parents[2] / "proxy" / "path_normalisation.tsv").read_text().splitlines()
    if line
]

_PREFIX = "- match: [{uri: {prefix: /pre}}]\n  rewrite: {uri: %s}\n  route: [{destination: {host: a}}]"

CASES = (
    Case("normalisation", routed(), tuple(get(path) for path in _INPUTS)),
    Case(
        "prefix rewrite",
        rules(_PREFIX % "/new"),
        tuple(map(get, ("/pre", "/pre/x", "/prefix/x", "/pre?q", "/pre/x?q=/pre", "/pre/../pre/y"))),
    ),
    Case("prefix rewrite to the root", rules(_PREFIX % "/"), tuple(map(get, ("/pre", "/pre/x", "/prefix", "/pre?q")))),
    Case("prefix rewrite with a query", rules(_PREFIX % "'/new?z=1'"), (get("/pre/x?q"),)),
    Case("prefix rewrite to what is no variable", rules(_PREFIX % "'%PREFIX()%/x'"), (get("/pre/x"),)),
    Case(
        "exact rewrite",
        rules("- match: [{uri: {exact: /e}}]\n  rewrite: {uri: /new}\n  route: [{destination: {host: a}}]"),
        (get("/e"), get("/e?q=1"), get("/e/x")),
    ),
    Case(
        "rewrite behind a regular expression",
        rules("- match: [{uri: {regex: '/r.*'}}]\n  rewrite: {uri: /new}\n  route: [{destination: {host: a}}]"),
        (get("/r/x?q=1"), get("/r")),
    ),
    Case(
        "regular expression rewrite",
        rules("""
- match: [{uri: {prefix: /swap}}]
  rewrite: {uriRegexRewrite: {match: '/swap/([^/]+)/([^/]+)', rewrite: '/\\2/\\1'}}
  route: [{destination: {host: a}}]
- match: [{uri: {prefix: /all}}]
  rewrite: {uriRegexRewrite: {match: 'l', rewrite: '<\\0>'}}
  route: [{destination: {host: a}}]
- match: [{uri: {prefix: /none}}]
  rewrite: {uriRegexRewrite: {match: 'z*', rewrite: '-'}}
  route: [{destination: {host: a}}]
"""),
        tuple(map(get, ("/swap/x/y?q=/swap/x/y", "/swap/x", "/swap/x/y/z", "/all/l?l", "/none/zz", "/none"))),
    ),
    Case(
        "authority rewrite",
        rules("""
- match: [{uri: {prefix: /both}}]
  rewrite: {authority: new.test, uri: /x}
  route: [{destination: {host: a}}]
- rewrite: {authority: 'new.test:81'}
  route: [{destination: {host: a}}]
"""),
        (get("/"), get("/", "x-envoy-original-host: forged"), get("/both/y"), get("/", "x-forwarded-host: h")),
    ),
)
