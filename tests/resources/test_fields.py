"""The models hold every field of Istio's kinds, and say of each what is done with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshproxy.resources import KINDS, field_paths, kind_named

# Every field of the kinds, one a line, taken from the CRDs of Istio: KIND PATH TYPE [VALUE|VALUE...].
_FIELDS = Path(__file__).with_name("fields.txt")
_KINDS = [name for name, kind in KINDS.items() if kind.is_istio]


def test_every_kind_of_istios_list_is_known() -> None:
    assert {line.split()[0] for line in _FIELDS.read_text().splitlines()} == set(_KINDS)


def _istio_fields(kind: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    rows = (line.split() for line in _FIELDS.read_text().splitlines())
    return {row[1]: (row[2], tuple(row[3].split("|")) if len(row) > 3 else ()) for row in rows if row[0] == kind}


@pytest.mark.parametrize("kind", _KINDS)
def test_a_kind_has_exactly_istios_fields_types_and_values(kind: str) -> None:
    assert {field.path: (field.type, field.values) for field in field_paths(kind)} == _istio_fields(kind)


@pytest.mark.parametrize(
    ("kind", "path", "support"),
    [
        ("VirtualService", "http[].match[].headers{}.regex", "honoured"),
        ("VirtualService", "http[].route[].weight", "honoured"),
        ("VirtualService", "http[].match[].statPrefix", "honoured"),
        ("VirtualService", "http[].mirror_percent", "honoured"),
        ("VirtualService", "tcp[].route[].destination.host", "not-yet"),
        ("DestinationRule", "trafficPolicy.portLevelSettings[].loadBalancer.simple", "honoured"),
        ("DestinationRule", "subsets[].trafficPolicy.connectionPool.tcp.connectTimeout", "honoured"),
        ("DestinationRule", "trafficPolicy.connectionPool.http.http1MaxPendingRequests", "honoured"),
        ("DestinationRule", "trafficPolicy.connectionPool.http.maxConcurrentStreams", "not-yet"),
        ("Gateway", "servers[].defaultEndpoint", "refused"),
        ("Gateway", "servers[].tls.mode", "not-yet"),
        ("Gateway", "servers[].tls.credentialName", "honoured"),
        ("ServiceEntry", "endpoints[].ports{}", "honoured"),
        ("WorkloadEntry", "labels{}", "honoured"),
        ("AuthorizationPolicy", "rules[].to[].operation.paths[]", "honoured"),
        ("AuthorizationPolicy", "provider.name", "honoured"),
        ("Sidecar", "egress[].hosts[]", "not-yet"),
        ("Sidecar", "inboundConnectionPool.tcp.connectTimeout", "not-yet"),
        ("Service", "ports[].targetPort", "honoured"),
        ("EndpointSlice", "endpoints[].conditions.ready", "honoured"),
    ],
)
def test_a_field_has_the_support_of_the_nearest_mark_above_it(kind: str, path: str, support: str) -> None:
    [field] = [field for field in field_paths(kind) if field.path == path]
    assert field.support == support
    assert bool(field.reason) == (support != "honoured")


def test_a_field_of_a_kind_that_is_not_supported_has_the_reason_of_the_kind() -> None:
    assert {field.reason for field in field_paths("Sidecar")} == {KINDS["Sidecar"].not_yet}


def test_a_kind_is_named_whatever_the_case_of_its_letters() -> None:
    assert kind_named("virtualservice") is KINDS["VirtualService"]


@pytest.mark.parametrize(
    ("name", "advice"), [("VirtualServce", "did you mean VirtualService?"), ("x", "use Gateway, ")]
)
def test_a_kind_that_is_none_is_answered_with_advice(name: str, advice: str) -> None:
    with pytest.raises(LookupError, match=re.escape(advice)):
        kind_named(name)
