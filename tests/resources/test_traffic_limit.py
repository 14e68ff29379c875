"""TrafficLimit: what may be written, and what is refused."""

from __future__ import annotations

import pytest

from meshproxy.resources import KINDS, TrafficLimit, kind_schema

from .conftest import Complaints, Reader

BUCKET = "tokenBucket: {maxTokens: 10, fillInterval: 1s}"


def test_a_whole_one(read: Reader) -> None:
    [limit] = read("""
        apiVersion: meshproxy.io/v1alpha1
        kind: TrafficLimit
        metadata: {name: shop}
        spec:
          gateways: [ingress]
          hosts: [shop.example.com]
          routes: [checkout]
          rateLimit:
            tokenBucket: {maxTokens: 100, tokensPerFill: 10, fillInterval: 1m}
            headers:
            - {name: X-User, tokenBucket: {maxTokens: 5, fillInterval: 50ms}}
            - {name: x-user, value: vip, tokenBucket: {maxTokens: 50, fillInterval: 1s}}
          buffer: {maxRequestBytes: 65536}
        """).of(TrafficLimit)

    rate, buffer = limit.spec.rate_limit, limit.spec.buffer
    assert rate is not None
    assert buffer is not None
    assert (rate.token_bucket.max_tokens, rate.token_bucket.tokens_per_fill, rate.token_bucket.fill_interval) == (
        *(100, 10),
        60.0,
    )
    assert [(one.name, one.value) for one in rate.headers] == [("x-user", None), ("x-user", "vip")]
    assert buffer.max_request_bytes == 65536


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        (f"{{rateLimit: {{{BUCKET}}}}}", "spec", "says not whom it is for; give gateways, or a selector"),
        ("{gateways: [a]}", "spec", "limits nothing; give rateLimit or buffer"),
        ("{gateways: [a], rateLimit: {}}", "rateLimit.tokenBucket", "is required"),
        (
            "{gateways: [a], rateLimit: {tokenBucket: {maxTokens: 0, fillInterval: 1s}}}",
            "rateLimit.tokenBucket.maxTokens",
            "the least is 1",
        ),
        (
            "{gateways: [a], rateLimit: {tokenBucket: {maxTokens: 1, fillInterval: 1}}}",
            "rateLimit.tokenBucket.fillInterval",
            "has no unit",
        ),
        (
            "{gateways: [a], rateLimit: {tokenBucket: {maxTokens: 1, fillInterval: 49ms}}}",
            "rateLimit.tokenBucket.fillInterval",
            "every 50ms at most",
        ),
        (
            f"{{gateways: [a], rateLimit: {{{BUCKET}, headers: [{{name: 'a b', {BUCKET}}}]}}}}",
            "rateLimit.headers[0].name",
            "is not a header name",
        ),
        (
            f"{{gateways: [a], rateLimit: {{{BUCKET}, headers: [{{name: a, {BUCKET}}}, {{name: A, {BUCKET}}}]}}}}",
            "rateLimit.headers[1]",
            "there is already a bucket for each value of a",
        ),
        ("{gateways: [a], buffer: {maxRequestBytes: 0}}", "buffer.maxRequestBytes", "the least is 1"),
        ("{gateways: [a/b/c], buffer: {maxRequestBytes: 1}}", "gateways[0]", "is no gateway's name"),
        (
            "{selector: {matchLabels: {a: b}}, hosts: [c.d], buffer: {maxRequestBytes: 1}}",
            "hosts",
            "to a workload there is one route only",
        ),
    ],
)
def test_this_is_refused(complaints: Complaints, spec: str, path: str, message: str) -> None:
    [(found, told), *_] = complaints("TrafficLimit", spec)
    assert found == path
    assert message in told


def test_editors_know_it() -> None:
    schema = kind_schema(KINDS["TrafficLimit"])

    assert schema["properties"]["apiVersion"]["enum"] == ["meshproxy.io/v1alpha1"]
    assert "rateLimit" in schema["$defs"]["TrafficLimit"]["properties"]
