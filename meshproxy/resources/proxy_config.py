"""ProxyConfig: settings of the proxies themselves.

Source: Istio's `networking/v1beta1/proxy_config.proto`, and the validation in its CRD.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .model import Model
from .targets import WorkloadLabels
from .types import NonNegative


class ProxyImage(Model):
    """The variant of the proxy's container image: default, debug or distroless."""

    image_type: str | None = None


class ProxyConfig(Model):
    """The workers, environment and image of the proxies of some workloads of its namespace, or all."""

    selector: WorkloadLabels | None = None
    concurrency: NonNegative | None = None
    environment_variables: dict[str, Annotated[str, Field(max_length=2048)]] = Field(default_factory=dict)
    image: ProxyImage | None = None
