"""The leaves of the models: ports, host names, durations, regular expressions, labels.

Each is a plain Python value once validated, so that nothing downstream has to unwrap it. The rules are
those of Istio's admission webhook and of the validation in its CRDs. Patterns run in RE2, as all
matching of untrusted text does, or cannot backtrack.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import re2
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from .model import Wrong, raise_wrongs

UNIX_PREFIX = "unix://"
MAX_REGEX = 1024
MAX_REGEX_PROGRAM = 32768  # RE2's instructions: Istio has Envoy refuse more
MAX_UNIX_PATH = 107  # bytes: Linux has room for one more, which ends it
MAX_HOST = 255

Bool = Annotated[bool, Strict()]
Number = Annotated[float, Strict()]
Int = Annotated[int, Strict(), Field(ge=-(2**31), le=2**31 - 1)]
NonNegative = Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)]
UInt = Annotated[int, Strict(), Field(ge=0, le=2**32 - 1)]
UInt64 = Annotated[int, Strict(), Field(ge=0, le=2**64 - 1)]
PortNumber = Annotated[int, Strict(), Field(ge=1, le=65535)]
PercentInt = Annotated[int, Strict(), Field(ge=0, le=100)]
PercentNumber = Annotated[float, Strict(), Field(ge=0, le=100)]
Text = Annotated[str, Field(min_length=1)]

_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_DNS_LABEL = re2.compile(_LABEL)
_WILDCARD_LABEL = re2.compile(rf"\*|(?:\*|\*-)?{_LABEL}")
# The commonest text of all, for which `re` takes a tenth of RE2's time; written so that it cannot backtrack.
_FQDN_LABEL = r"[a-zA-Z0-9]++(?:-++[a-zA-Z0-9]++)*+"
_FQDN = re.compile(rf"{_FQDN_LABEL}(?:\.{_FQDN_LABEL})*+\.?+")
_LABEL_KEY = re2.compile(rf"(?:({_LABEL}(?:\.{_LABEL})*)/)?((?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])")
_LABEL_VALUE = re2.compile(r"(?:(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_ALL_DIGITS = re.compile(r"[0-9]++")


def is_dns_label(text: str) -> bool:
    """Whether the text is a DNS label in Istio's reading of RFC 1123: upper case is allowed."""
    return len(text) <= 63 and bool(_DNS_LABEL.fullmatch(text))


def is_ip_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def fqdn_error(host: str) -> str | None:
    """Why the text is not a domain name, wildcards not being allowed; None when it is one."""
    if not host:
        return "is empty; give a host name such as reviews.default.svc.cluster.local"
    if len(host) > MAX_HOST:
        return f"is a host name of {len(host)} characters; {MAX_HOST} are the most"
    if " " in host:
        return f"{host!r} holds a space, which no host name does; use letters, digits, '-' and '.'"
    if not _FQDN.fullmatch(host):
        return f"{host!r} is not a host name; use labels of letters, digits and '-', joined by '.'"
    labels = host.split(".")
    long = next((label for label in labels if len(label) > 63), None)
    if long is not None:
        return f"label {long!r} of the host name has {len(long)} characters; 63 are the most"
    if _ALL_DIGITS.fullmatch(labels[-1]):
        return f"{host!r} is not a host name: its last label is a number; give a name that ends in letters"
    return None


def wildcard_host_error(host: str) -> str | None:
    """Why the text is not a domain name that may begin with a wildcard; None when it is one."""
    first, dot, rest = host.partition(".")
    if "*" not in first:
        return fqdn_error(host)
    if len(first) > 63 or not _WILDCARD_LABEL.fullmatch(first):
        return f"{host!r} is not a host name; '*' may only stand at its start, as in *.example.com"
    return fqdn_error(rest) if dot else None


def hosts_overlap(one: str, other: str) -> bool:
    """Whether a host could match both names: they are equal, or the wildcard of one covers the other."""
    if "*" not in one and "*" not in other:
        return one == other
    if "*" in one and "*" in other:
        one, other = sorted((one[1:], other[1:]), key=len)
        return other.endswith(one)
    exact, wildcard = (other, one) if "*" in one else (one, other)
    return exact.endswith(wildcard[1:])


def checked(error: Callable[[str], str | None]) -> AfterValidator:
    """A validator out of a function that explains what is wrong with a text."""

    def check(text: str) -> str:
        reason = error(text)
        if reason is not None:
            raise ValueError(reason)
        return text

    return AfterValidator(check)


@dataclass(frozen=True, slots=True)
class OneOfTexts:
    """Metadata of a field that Istio types as a string, though it knows only these values."""

    texts: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic's hook: the field's validation."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Pydantic's hook: the field's JSON Schema."""
        return {"type": "string", "enum": list(self.texts)}

    def _check(self, text: str) -> str:
        if text not in self.texts:
            raise ValueError(f"{text!r} is not one of {', '.join(self.texts)}")
        return text


def one_of_texts(*texts: str) -> OneOfTexts:
    """Metadata that lets a string be one of these."""
    return OneOfTexts(texts)


def _any_host_error(host: str) -> str | None:
    return None if is_ip_address(host) else wildcard_host_error(host)


def _destination_host_error(host: str) -> str | None:
    if host == "*":
        return "'*' is no destination; name the one service that requests go to"
    return wildcard_host_error(host)


def _dns_label_error(text: str) -> str | None:
    if is_dns_label(text):
        return None
    return f"{text!r} is not a name; use up to 63 letters, digits and '-', with a letter or digit at both ends"


def _ip_error(text: str) -> str | None:
    return None if is_ip_address(text) else f"{text!r} is not an IP address such as 127.0.0.1 or ::1"


def _subnet_error(text: str) -> str | None:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is neither an IP address nor a subnet such as 10.0.0.0/8"
    return None


def _text_schema(description: str, **keywords: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description, **keywords})


FQDN = Annotated[str, checked(fqdn_error), _text_schema("A host name.")]
WildcardHost = Annotated[
    str, checked(wildcard_host_error), _text_schema("A host name, or a wildcard such as *.example.com.")
]
HostOrIP = Annotated[
    str, checked(_any_host_error), _text_schema("A host name, a wildcard such as *.example.com, or an IP address.")
]
DestinationHost = Annotated[
    str, checked(_destination_host_error), _text_schema("A service's host name; short names are completed as in Istio.")
]
DNSLabel = Annotated[
    str,
    checked(_dns_label_error),
    _text_schema("A name: letters, digits and '-'.", maxLength=63, pattern=f"^{_LABEL}$"),
]
IPAddress = Annotated[str, checked(_ip_error), _text_schema("An IP address.")]
Subnet = Annotated[str, checked(_subnet_error), _text_schema("An IP address, or a subnet such as 10.0.0.0/8.")]


def unix_path_error(address: str) -> str | None:
    """Why `unix://...` names no socket: it takes an absolute path, or `@name` for an abstract one."""
    path = address.removeprefix(UNIX_PREFIX)
    if (size := len(path.encode())) > MAX_UNIX_PATH:
        return f"the path of a socket has {size} bytes; {MAX_UNIX_PATH} are the most"
    if path.startswith("@") or (path.startswith("/") and not path.endswith("/")):
        return None
    return f"{address!r} names no socket; write unix:///absolute/path.sock or unix://@abstract"


# Durations: Go's `time.ParseDuration`, which Istio's API server and istiod both use.
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MAX_SECONDS = 290 * 365 * 86400.0  # Go counts nanoseconds in 63 bits
_DURATION_PART = re2.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re2.compile(rf"\+?(?:{_DURATION_PART.pattern})+|0")
_BARE_NUMBER = re2.compile(r"[0-9]+(?:\.[0-9]+)?")


def parse_duration(text: object) -> float:
    """Read a duration such as `1h30m`, `1.5s` or `10ms` as seconds.

    Raises:
        ValueError: the text is no duration, is negative, too long, or lacks a unit.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(f"{text} has no unit; write {text}s for seconds or {text}ms for milliseconds")
    if not isinstance(text, str):
        raise ValueError("expected a duration such as 1.5s, 10ms or 1h30m")
    if _DURATION.fullmatch(text):
        seconds = sum(float(n) * _UNIT_SECONDS[unit] for n, unit in _DURATION_PART.findall(text))
        if seconds > _MAX_SECONDS:
            raise ValueError(f"{text[:60]!r} is too long; 290 years are the most")
        # Rounded to Go's nanoseconds, so that `0.1s` and `100ms` are the same number.
        return round(seconds, 9)
    if _BARE_NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} has no unit; write {text}s for seconds or {text}ms for milliseconds")
    if text.startswith("-"):
        raise ValueError(f"{text!r} is negative; give a duration such as 1.5s, 10ms or 1h30m")
    raise ValueError(f"{text!r} is not a duration; write it as 1.5s, 10ms or 1h30m")


def _at_least_a_millisecond(seconds: float) -> float:
    if seconds < 0.001:
        raise ValueError("a duration here is at least 1ms")
    if round(seconds * 1e9) % 1_000_000:
        raise ValueError("durations are exact to the millisecond; round this one to whole ms")
    return seconds


_DURATION_SCHEMA = _text_schema(
    "A duration, such as 1.5s, 10ms or 1h30m.",
    pattern=f"^(?:{_DURATION.pattern})$",
    patternErrorMessage="not a duration; write it as 1.5s, 10ms or 1h30m",
)
Duration = Annotated[float, BeforeValidator(parse_duration), _DURATION_SCHEMA]
PositiveDuration = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_at_least_a_millisecond), _DURATION_SCHEMA
]
TimeLimit = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(lambda seconds: seconds and _at_least_a_millisecond(seconds)),
    _DURATION_SCHEMA,
]
"""As `PositiveDuration`, or 0 for none."""

_RE2_OPTIONS = re2.Options()
_RE2_OPTIONS.encoding = re2.Options.Encoding.LATIN1  # they will meet bytes
_RE2_OPTIONS.log_errors = False


def _regex_error(pattern: str) -> str | None:
    if not pattern:
        return "a regular expression cannot be empty; use .* to match anything"
    if len(pattern) > MAX_REGEX:
        return f"a regular expression of {len(pattern)} characters; {MAX_REGEX} are the most"
    try:
        program_size = re2.compile(pattern.encode(), _RE2_OPTIONS).programsize
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        return f"{pattern!r} is not a regular expression of RE2: {text}; see https://github.com/google/re2/wiki/Syntax"
    if program_size > MAX_REGEX_PROGRAM:
        return f"a regular expression of {program_size} instructions; {MAX_REGEX_PROGRAM} are the most; repeat less"
    return None


def group_count(pattern: str) -> int:
    """How many groups a regular expression has."""
    return int(re2.compile(pattern.encode(), _RE2_OPTIONS).groups)


# JSON Schema's format `regex` means JavaScript's expressions, which know no (?i).
Regex = Annotated[
    str,
    checked(_regex_error),
    _text_schema("A regular expression, in RE2's syntax.", minLength=1, maxLength=MAX_REGEX),
]


def _labels(labels: dict[str, str]) -> dict[str, str]:
    raise_wrongs("labels", _label_errors(labels))
    return labels


def _label_errors(labels: dict[str, str]) -> Iterable[Wrong]:
    for key, value in labels.items():
        match = _LABEL_KEY.fullmatch(key)
        if not match or len(match[2]) > 63 or len(match[1] or "") > 253:
            yield (
                (key,),
                f"{key!r} is not a label name; use letters, digits, '-', '_' and '.', as in domain/name",
            )
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            yield (key,), f"{value!r} is not a label value; use up to 63 letters, digits, '-', '_' and '.'"


def _selector(labels: dict[str, str]) -> dict[str, str]:
    wrongs: list[Wrong] = []
    for key, value in labels.items():
        if "*" in key + value:
            wrongs.append(((key,), "a selector compares exactly; '*' cannot stand for anything in it"))
        elif not key:
            wrongs.append(((key,), "the name of a label cannot be empty"))
    raise_wrongs("selector", wrongs)
    return labels


Labels = Annotated[dict[str, str], AfterValidator(_labels)]
Selector = Annotated[dict[str, str], AfterValidator(_selector)]


def _decode_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("expected base64 text")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}; use `string` for plain text") from None


Base64 = Annotated[bytes, BeforeValidator(_decode_base64), _text_schema("Bytes, as base64.", contentEncoding="base64")]


def _export_to(values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    namespace = (info.context or {}).get("namespace", "")
    raise_wrongs("exportTo", _export_to_errors(values, namespace, nobody=False))
    return values


def _service_export_to(values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    namespace = (info.context or {}).get("namespace", "")
    raise_wrongs("exportTo", _export_to_errors(values, namespace, nobody=True))
    return values


def _export_to_errors(values: tuple[str, ...], namespace: str, nobody: bool) -> Iterable[Wrong]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        place = namespace if value == "." else value
        if place in seen:
            yield (index,), f"{value!r} names a namespace that the list already has; keep one"
        elif value == "~" and not nobody:
            yield (index,), "'~' (nobody) is for ServiceEntry alone; use '.' to keep it in its own namespace"
        elif value not in (".", "*", "~") and not is_dns_label(value):
            yield (index,), f"{value!r} is no namespace; use '.', '*' or a namespace's name"
        elif value in ("*", "~") and len(values) > 1:
            yield (index,), f"{value!r} has to stand alone in exportTo"
        seen.add(place)


ExportTo = Annotated[tuple[str, ...], AfterValidator(_export_to)]
ServiceExportTo = Annotated[tuple[str, ...], AfterValidator(_service_export_to)]


_SERVICE_PORT_NAME = re2.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")


def _port_or_name(value: Any) -> int | str:
    """A Kubernetes targetPort: a number, or the name of a container's port (IANA_SVC_NAME)."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= 65535:
            return value
        raise ValueError(f"port {value} is out of range; ports are 1 to 65535")
    if isinstance(value, str) and len(value) <= 63 and _SERVICE_PORT_NAME.fullmatch(value):
        if _ALL_DIGITS.fullmatch(value):
            raise ValueError(f"{value!r} is text; write the number {value} without quotes")
        return value
    raise ValueError(
        f"{value!r} is neither a port number nor a port's name; use 1 to 65535, or lower-case letters and '-'"
    )


PortOrName = Annotated[int | str, BeforeValidator(_port_or_name)]
