"""Telemetry: what is measured, traced and logged.

Source: Istio's `telemetry/v1alpha1/telemetry.proto`, and the validation in its CRD.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .model import Model
from .targets import TargetReference, TargetReferences, WorkloadLabels
from .types import Bool, PercentNumber, PositiveDuration, Text

WorkloadMode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
IstioMetric = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]


class ProviderRef(Model):
    """A provider of the mesh's configuration, by its name."""

    name: Text


class ModeSelector(Model):
    """The side that reports: the caller's proxy, the called one's, or both."""

    mode: WorkloadMode | None = None


class LiteralTag(Model):
    """The same value for every span."""

    value: Text


class EnvironmentTag(Model):
    """The value of one of the proxy's environment variables."""

    name: Text
    default_value: str | None = None


class HeaderTag(Model):
    """The value of a request header."""

    name: Text
    default_value: str | None = None


class FormatterTag(Model):
    """A format of the access log, such as %REQUESTED_SERVER_NAME%."""

    value: Text


class CustomTag(Model):
    """Where the value of a span's tag comes from; one of these."""

    literal: LiteralTag | None = None
    environment: EnvironmentTag | None = None
    header: HeaderTag | None = None
    formatter: FormatterTag | None = None


class Tracing(Model):
    """Which requests are traced, and what their spans tell."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: PercentNumber | None = None
    disable_span_reporting: Bool | None = None
    custom_tags: dict[str, CustomTag] = Field(default_factory=dict)
    use_request_id_for_trace_sampling: Bool | None = None
    enable_istio_tags: Bool | None = None
    disable_context_propagation: Bool | None = None


class MetricSelector(Model):
    """The metrics that an override is about: one of Istio's or a custom one. All unless given."""

    metric: IstioMetric | None = None
    custom_metric: Text | None = None
    mode: WorkloadMode | None = None


class TagOverride(Model):
    """UPSERT sets a metric's tag to a CEL expression's value, REMOVE takes it away."""

    operation: Literal["UPSERT", "REMOVE"] | None = None
    value: str | None = None


class MetricsOverride(Model):
    """Other tags for some metrics, or none of these metrics at all."""

    match: MetricSelector | None = None
    disabled: Bool | None = None
    tag_overrides: dict[str, TagOverride] = Field(default_factory=dict)


class Metrics(Model):
    """What is counted, and for which providers."""

    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverride, ...] = ()
    reporting_interval: PositiveDuration | None = None


class AccessLogFilter(Model):
    """A CEL expression, such as response.code >= 400, that picks what is logged."""

    expression: str | None = None


class AccessLogging(Model):
    """Which requests are logged, and for which providers."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: Bool | None = None
    filter: AccessLogFilter | None = None


class Telemetry(Model):
    """Settings of traces, metrics and access logs for some workloads of its namespace, or all."""

    selector: WorkloadLabels | None = None
    target_ref: TargetReference | None = None
    target_refs: TargetReferences = ()
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()
