"""What is told of in every part: where a thing was written, addresses, and conditions on a text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a person wrote this: `resource` is `Kind/name.namespace`, `line` counts from 1.

    `path` is the place in the resource, such as `spec.http[2].match[0]`. `root` is the rule that delegates to this one,
    if any does.
    """

    file: str
    line: int
    resource: str
    path: str = ""
    root: Origin | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.resource})"


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """`host` is an IP address, or a name to be looked up where the cluster's type says so."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Pipe:
    """A Unix domain socket."""

    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


Address = SocketAddress | Pipe


@dataclass(frozen=True, slots=True)
class Exact:
    """The whole value is `value`."""

    value: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """The value begins with `value`."""

    value: str


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole value matches the RE2 expression `value`."""

    value: str


StringMatcher = Exact | Prefix | Regex


@dataclass(frozen=True, slots=True)
class Suffix:
    """The value ends with `value`."""

    value: str


ValueMatcher = StringMatcher | Suffix
