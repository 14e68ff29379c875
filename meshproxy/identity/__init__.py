"""Who is everyone? The CA, how certificates prove identities, and how tokens do.

The words of this package:

- A `SpiffeId` (`spiffe`) is a name, such as `spiffe://cluster.local/ns/prod/sa/reviews`; `cluster.local` is its trust
  domain. An `Identity` (`verification`) is one that a peer has proven; `verify_peer` is how everybody finds out.
- An `Authority` (`authority`) is a CA: a directory with a root, an intermediate that signs, and what they have revoked.
  `Issued` (`credentials`) is what it gives, a chain and what to verify others by; `Credentials` are that and the key.
- `certificates`, `keys`, `revocation` and `signing_requests` make and read these; `description` tells them in words.
- A join token (`tokens`) admits a workload's first signing request; `admission` decides who gets which certificate.
- `server` is the CA on the network, `client` a workload's side of it, `protocol` what they say to each other.
- A running proxy's own identity is a `WorkloadIdentity` (`workload`): got before it serves, and kept current.
- `files` writes whole files or none, `issuance` is the record of what was issued, `renewal` says when it is time.
- Users show JSON Web Tokens: `jwt` takes one apart and says why it is refused, `jwks` has the keys that sign them, and
  `issuers` fetches those keys and keeps them fresh; `minting` is an issuer for development.
- `IdentityError` (`errors`) is raised for whatever a person must mend.

Its rules: a chain alone proves nothing, the SPIFFE ID in it does; nobody names their own identity; nothing secret is
in an error, a log or a repr; the time is passed in.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .authority import Authority, server_id
    from .client import RemoteCa, keep_current, local_ca, obtain
    from .credentials import Credentials, Issued, read_credentials, write_credentials
    from .errors import IdentityError, NotVerified, Refused, Unusable
    from .spiffe import SpiffeId
    from .verification import Identity, verify_peer
    from .workload import WorkloadIdentity, trusted_by

__all__ = [
    "Authority",
    "Credentials",
    "Identity",
    "IdentityError",
    "Issued",
    "NotVerified",
    "Refused",
    "RemoteCa",
    "SpiffeId",
    "Unusable",
    "WorkloadIdentity",
    "keep_current",
    "local_ca",
    "obtain",
    "read_credentials",
    "server_id",
    "trusted_by",
    "verify_peer",
    "write_credentials",
]

_HOMES = {
    "Authority": "authority",
    "server_id": "authority",
    "RemoteCa": "client",
    "keep_current": "client",
    "local_ca": "client",
    "obtain": "client",
    "Credentials": "credentials",
    "Issued": "credentials",
    "read_credentials": "credentials",
    "write_credentials": "credentials",
    "IdentityError": "errors",
    "NotVerified": "errors",
    "Refused": "errors",
    "Unusable": "errors",
    "SpiffeId": "spiffe",
    "Identity": "verification",
    "verify_peer": "verification",
    "WorkloadIdentity": "workload",
    "trusted_by": "workload",
}
"""Where the names come from. These modules bring `cryptography`, for which a mesh without identities need not wait."""


def __getattr__(name: str) -> Any:
    """PEP 562: a name is imported when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
