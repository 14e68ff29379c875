"""Reads what people type: addresses, ports, durations, labels. What makes no sense is answered with an example."""

from __future__ import annotations

import re
from typing import Any

import click

from ..mesh.names import is_ip_address
from ..resources import parse_duration
from ..snapshot import Locality, SocketAddress

_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_LOOPBACK = "127.0.0.1"
_ANY = "0.0.0.0"


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port number from 0 to 65535")
    return int(text)


def address(text: str, default_host: str) -> SocketAddress:
    """`HOST:PORT`, `[IPV6]:PORT` or `PORT`. Raises `ValueError`."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return SocketAddress(default_host, _port(port))
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not is_ip_address(host):
        raise ValueError(f"{host!r} is not an IP address")
    return SocketAddress(host, _port(port))


class Address(click.ParamType[SocketAddress]):
    """An address to listen on; the loopback address where only a port is given."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SocketAddress:
        try:
            return value if isinstance(value, SocketAddress) else address(value, _LOOPBACK)
        except ValueError as error:
            self.fail(f"{error}; write it as 127.0.0.1:15000", param, ctx)


class AppAddress(click.ParamType[SocketAddress]):
    """Where an app listens: an IP address or a name, and a port."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SocketAddress:
        if isinstance(value, SocketAddress):
            return value
        host, colon, port = str(value).rpartition(":")
        try:
            if colon and not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is not a host")
            found = SocketAddress(host.strip("[]") or _LOOPBACK, _port(port))
            if found.port == 0:
                raise ValueError("an app listens on a port from 1 to 65535")
            return found
        except ValueError as error:
            self.fail(f"{error}; write it as 127.0.0.1:9000", param, ctx)


class Publish(click.ParamType[tuple[int, SocketAddress]]):
    """`GATEWAY-PORT:LOCAL-PORT` or `GATEWAY-PORT:ADDRESS:LOCAL-PORT`."""

    name = "port:[address:]port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, SocketAddress]:
        if isinstance(value, tuple):
            return value
        port, colon, local = str(value).partition(":")
        try:
            if not colon:
                raise ValueError(f"{value!r} has no local port")
            return _port(port), address(local, _ANY)
        except ValueError as error:
            self.fail(f"{error}; write it as 80:8080 or 80:127.0.0.1:8080", param, ctx)


class Duration(click.ParamType[float]):
    """A duration as Istio writes them, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LocalityParameter(click.ParamType[Locality]):
    """`REGION`, `REGION/ZONE` or `REGION/ZONE/SUBZONE`."""

    name = "region[/zone[/subzone]]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Locality:
        if isinstance(value, Locality):
            return value
        parts = str(value).split("/")
        if not all(parts) or len(parts) > 3:
            self.fail(f"{value!r} is not a locality; write it as europe-west1/b, or only the region", param, ctx)
        return Locality(*parts)


class Labels(click.ParamType[dict[str, str]]):
    """`name=value`, several separated by commas."""

    name = "name=value,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        labels: dict[str, str] = {}
        for label in str(value).split(","):
            name, equals, text = label.partition("=")
            if not name or not equals:
                self.fail(f"{label!r} is not a label; write it as istio=ingressgateway", param, ctx)
            labels[name] = text
        return labels
