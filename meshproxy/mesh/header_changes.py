"""Header operations of a VirtualService as Envoy's mutations (Istio's `TranslateHeadersOperations`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..resources import HeaderOperations, Headers
from ..snapshot import HeaderMutations, HeaderValue

_AUTHORITY = frozenset((":authority", "host"))


class HeaderChanges(NamedTuple):
    """What one `headers` block comes to. Setting the host changes no header: it rewrites the authority."""

    request: HeaderMutations = HeaderMutations()
    response: HeaderMutations = HeaderMutations()
    authority: str | None = None

    def then(self, other: HeaderChanges) -> HeaderChanges:
        """These changes and then `other`'s; the authority is the first that is given."""
        return HeaderChanges(
            _joined(self.request, other.request),
            _joined(self.response, other.response),
            self.authority or other.authority,
        )


def header_changes(headers: Headers | None) -> HeaderChanges:
    """Translate a `headers` block: first what is set, then what is added, each by name."""
    if headers is None:
        return HeaderChanges()
    return HeaderChanges(
        _mutations(headers.request),
        _mutations(headers.response),
        _authority(headers.request.set) or _authority(headers.request.add) if headers.request else None,
    )


def _mutations(operations: HeaderOperations | None) -> HeaderMutations:
    if operations is None:
        return HeaderMutations()
    return HeaderMutations(
        remove=tuple(name.lower() for name in operations.remove if not _is_internal(name)),
        add=(*_values(operations.set, append=False), *_values(operations.add, append=True)),
    )


def _values(headers: Mapping[str, str], *, append: bool) -> Iterable[HeaderValue]:
    return (HeaderValue(name.lower(), headers[name], append) for name in sorted(headers) if not _is_internal(name))


def _is_internal(name: str) -> bool:
    """Whether Envoy forbids changing the header, the parts of the request line and the host."""
    return name.startswith(":") or name.lower() == "host"


def _authority(headers: Mapping[str, str]) -> str | None:
    return next((value for name, value in headers.items() if name.lower() in _AUTHORITY), None)


def _joined(first: HeaderMutations, second: HeaderMutations) -> HeaderMutations:
    return HeaderMutations(first.remove + second.remove, first.add + second.add)
