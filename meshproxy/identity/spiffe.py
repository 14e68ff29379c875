"""SPIFFE IDs: the names that certificates prove, such as `spiffe://cluster.local/ns/prod/sa/reviews`.

Rules: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md, section 2. An ID has one spelling: nothing is
percent-encoded, no case is folded, so that equal text is the same identity and nothing else is. Istio's form of the
path is `/ns/NAMESPACE/sa/SERVICE-ACCOUNT` (https://istio.io/latest/docs/concepts/security/#istio-identity).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEME = "spiffe://"
MAX_ID = 2048
MAX_TRUST_DOMAIN = 255

# Section 2.1: trust domain names are of lower case letters, digits, dots, dashes and underscores.
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]++")
# Section 2.2: segments are of letters, digits, dots, dashes and underscores.
_SEGMENT = re.compile(r"[A-Za-z0-9._-]++")
# Kubernetes' names: a namespace is a label of RFC 1123, a service account a subdomain of such labels.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_SERVICE_ACCOUNT = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """`path` begins with a slash; it is empty in the ID of the trust domain itself, which signing certificates have."""

    trust_domain: str
    path: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}{self.path}"

    @property
    def service_account(self) -> tuple[str, str] | None:
        """Namespace and service account, where the path has Istio's form."""
        match self.path.split("/"):
            case ["", "ns", namespace, "sa", account]:
                return namespace, account
        return None


def parse(text: str) -> SpiffeId:
    """Read a SPIFFE ID. Raises `ValueError`."""
    if len(text) > MAX_ID:
        raise ValueError(f"a SPIFFE ID of {len(text)} characters; {MAX_ID} are the most")
    if not text.startswith(SCHEME):
        raise ValueError(f"{text!r} is not a SPIFFE ID; write it as spiffe://cluster.local/ns/default/sa/reviews")
    trust_domain, slash, path = text.removeprefix(SCHEME).partition("/")
    error = trust_domain_error(trust_domain)
    if error is not None:
        raise ValueError(f"{text!r} is not a SPIFFE ID: {error}")
    for segment in path.split("/") if slash else ():
        if segment in ("", ".", ".."):
            raise ValueError(f"{text!r} is not a SPIFFE ID: its path has an empty segment, '.' or '..'")
        if not _SEGMENT.fullmatch(segment):
            raise ValueError(f"{text!r} is not a SPIFFE ID: a path is of letters, digits, '.', '-' and '_'")
    return SpiffeId(trust_domain, slash + path)


def of_service_account(trust_domain: str, namespace: str, account: str) -> SpiffeId:
    """The identity of a service account, as Istio writes it. Raises `ValueError`."""
    error = trust_domain_error(trust_domain)
    if error is not None:
        raise ValueError(error)
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(f"{namespace!r} is not a namespace: at most 63 lower case letters, digits and '-'")
    if not _SERVICE_ACCOUNT.fullmatch(account):
        raise ValueError(f"{account!r} is not a service account: lower case letters, digits, '-' and '.'")
    return SpiffeId(trust_domain, f"/ns/{namespace}/sa/{account}")


def trust_domain_error(name: str) -> str | None:
    """Why the text is not the name of a trust domain; None when it is one."""
    if not name:
        return "the trust domain is missing; Istio's is cluster.local"
    if len(name) > MAX_TRUST_DOMAIN:
        return f"a trust domain of {len(name)} characters; {MAX_TRUST_DOMAIN} are the most"
    if not _TRUST_DOMAIN.fullmatch(name):
        return f"the trust domain {name!r} is not of lower case letters, digits, '.', '-' and '_'"
    return None
