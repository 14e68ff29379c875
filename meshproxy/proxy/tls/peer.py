"""What a peer has shown in its handshake."""

from __future__ import annotations

import ssl
import sys
from typing import Any

_DER = 2  # _ssl.ENCODING_DER


def shown_chain(tls: ssl.SSLObject) -> list[bytes]:
    """The certificates that a peer has shown, in DER, its own first; none if it has shown none.

    After a session that went on there is its own alone.
    """
    if sys.version_info >= (3, 13):
        return list(tls.get_unverified_chain())
    else:  # what 3.13 made public has been there since 3.10
        inner: Any = tls._sslobj  # type: ignore[attr-defined]
        return [one.public_bytes(_DER) for one in inner.get_unverified_chain() or ()]
