"""The models hold every field of Istio's kinds, and say of each what is done with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshproxy.resources import KINDS, field_paths

# Every field of the kinds, one a line, taken from the CRDs of Istio: KIND PATH TYPE [VALUE|VALUE...].
_FIELDS = Path(__file__).with_name("fields.txt")
_KINDS = ("Gateway", "VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry")


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
        ("VirtualService", "http[].match[].statPrefix", "not-yet"),
        ("VirtualService", "http[].mirror_percent", "not-yet"),
        ("VirtualService", "tcp[].route[].destination.host", "not-yet"),
        ("DestinationRule", "trafficPolicy.portLevelSettings[].loadBalancer.simple", "not-yet"),
        ("DestinationRule", "subsets[].trafficPolicy.connectionPool.tcp.connectTimeout", "honoured"),
        ("Gateway", "servers[].defaultEndpoint", "refused"),
        ("Gateway", "servers[].tls.mode", "not-yet"),
        ("ServiceEntry", "endpoints[].ports{}", "honoured"),
        ("WorkloadEntry", "labels{}", "honoured"),
        ("Service", "ports[].targetPort", "honoured"),
        ("EndpointSlice", "endpoints[].conditions.ready", "honoured"),
    ],
)
def test_a_field_has_the_support_of_the_nearest_mark_above_it(kind: str, path: str, support: str) -> None:
    [field] = [field for field in field_paths(kind) if field.path == path]
    assert field.support == support
    assert bool(field.reason) == (support != "honoured")


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_has_a_json_schema(kind: str) -> None:
    assert KINDS[kind].model.model_json_schema()["additionalProperties"] is False
