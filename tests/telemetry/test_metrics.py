"""Counters and histograms, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshproxy.telemetry.metrics import BUCKETS_MS, Histogram, Metrics
from meshproxy.telemetry.prometheus import render

Sample = Callable[..., float | None]


def scraped(metrics: Metrics) -> Sample:
    """Look up a sample in the rendered page by its name and some of its labels."""
    families = list(text_string_to_metric_families(render(metrics).decode()))

    def sample(name: str, **labels: str) -> float | None:
        found = [
            one.value
            for family in families
            for one in family.samples
            if one.name == name and labels.items() <= one.labels.items()
        ]
        assert len(found) < 2, f"{name} with {labels} is not one sample"
        return found[0] if found else None

    return sample


def test_a_histogram_counts_each_duration_in_its_bucket_and_those_above() -> None:
    histogram = Histogram()
    for milliseconds in (0.4, 0.5, 0.6, 1, 4_000_000):
        histogram.observe(milliseconds / 1000)

    buckets = dict(histogram.buckets())

    assert (buckets["0.5"], buckets["1"], buckets["5"], buckets["3600000"], buckets["+Inf"]) == (2, 4, 4, 4, 5)
    assert histogram.sum_ms == pytest.approx(4_000_002.5)
    assert len(buckets) == len(BUCKETS_MS) + 1


def test_a_cluster_counts_requests_by_class_of_their_response() -> None:
    metrics = Metrics()
    stats = metrics.cluster("outbound|80||a")
    for status in (200, 204, 302, 404, 503, 503, 600, 0):
        stats.count(status, 0.002)
    stats.requests_active = 3

    sample = scraped(metrics)

    cluster = {"envoy_cluster_name": "outbound|80||a"}
    assert sample("envoy_cluster_upstream_rq_total", **cluster) == 8
    assert sample("envoy_cluster_upstream_rq_active", **cluster) == 3
    assert [
        sample("envoy_cluster_upstream_rq_xx_total", envoy_response_code_class=str(one), **cluster)
        for one in range(1, 6)
    ] == [0, 2, 1, 1, 3]
    assert sample("envoy_cluster_upstream_rq_time_count", **cluster) == 8
    assert sample("envoy_cluster_upstream_rq_time_sum", **cluster) == pytest.approx(16)
    assert sample("envoy_cluster_upstream_rq_time_bucket", le="1", **cluster) == 0
    assert sample("envoy_cluster_upstream_rq_time_bucket", le="5", **cluster) == 8


def test_a_listener_counts_connections_and_requests() -> None:
    metrics = Metrics()
    stats = metrics.listener("http-80")
    stats.connections, stats.connections_active, stats.refused = 5, 2, 1
    stats.requests = {("a", 200, ""): 7, ("b", 404, "NR"): 2, ("a", 503, "UH"): 1}
    stats.time.observe(0.02)

    sample = scraped(metrics)

    listener = {"envoy_http_conn_manager_prefix": "http-80"}
    assert sample("envoy_http_downstream_cx_total", **listener) == 5
    assert sample("envoy_http_downstream_cx_active", **listener) == 2
    assert sample("envoy_http_downstream_cx_protocol_error_total", **listener) == 1
    assert sample("envoy_http_downstream_rq_total", **listener) == 10
    assert [
        sample("envoy_http_downstream_rq_xx_total", envoy_response_code_class=str(one), **listener)
        for one in range(1, 6)
    ] == [0, 7, 0, 2, 1]
    assert sample("envoy_http_downstream_rq_time_bucket", le="25", **listener) == 1


def test_istios_counter_sums_over_listeners_and_names_the_service() -> None:
    metrics = Metrics()
    metrics.listener("one").requests = {("outbound|80|v1|a.default.svc.cluster.local", 200, ""): 2}
    metrics.listener("two").requests = {
        ("outbound|80|v1|a.default.svc.cluster.local", 200, ""): 3,
        ("", 404, "NR"): 1,
    }

    sample = scraped(metrics)

    assert (
        sample(
            "istio_requests_total",
            destination_service="a.default.svc.cluster.local",
            response_code="200",
            response_flags="-",
            reporter="source",
            request_protocol="http",
        )
        == 5
    )
    assert sample("istio_requests_total", destination_service="unknown", response_code="404", response_flags="NR") == 1


def test_the_counters_of_a_name_are_the_same_every_time() -> None:
    metrics = Metrics()

    assert metrics.cluster("c") is metrics.cluster("c")
    assert metrics.listener("l") is metrics.listener("l")


def test_names_from_configuration_cannot_break_the_page() -> None:
    metrics = Metrics()
    metrics.cluster('a"b\\c\nd').count(200, 0.001)

    assert scraped(metrics)("envoy_cluster_upstream_rq_total", envoy_cluster_name='a"b\\c\nd') == 1


def test_a_proxy_that_has_served_nothing_has_a_page() -> None:
    assert b"# TYPE istio_requests_total counter" in render(Metrics())
