"""Which of a listener's filter chains a connection is for, by what its client says first.

Source: Envoy's `FilterChainMatch`
(https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/listener/v3/listener_components.proto). The conditions are
looked at one after the other, from the most specific value that some chain names for each; there is no way back: a
chain that is less specific in one of them is not for a connection which a more specific one turns away in the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from ..snapshot import ANY_CONNECTION, FilterChain, FilterChainMatch, Listener
from .tls.client_hello import ClientHello

T = TypeVar("T")


def chain_for(listener: Listener, server_name: str, *, identified: bool = False) -> FilterChain | None:
    """The chain of a listener that a well-behaved client comes to, which asks for the server that its request is for.

    Who has an identity to show (`identified`) speaks TLS where that is taken, by any protocol that a chain is for; who
    has none speaks it where nothing else is.
    """
    index = ChainIndex([(chain.match, chain) for chain in listener.filter_chains])
    if index.only is not None:
        return index.only
    protocols = [protocol for chain in listener.filter_chains for protocol in chain.match.application_protocols]
    hello = ClientHello(server_name.lower(), tuple(protocols))
    if identified:
        return index.find(hello) or index.find(None)
    return index.find(None) or index.find(ClientHello(server_name.lower()))


class ChainIndex(Generic[T]):
    """Finds what was filed under the match of a filter chain."""

    def __init__(self, chains: Iterable[tuple[FilterChainMatch, T]]) -> None:
        """Raises `ValueError` when two of them match the same."""
        self._by_name: dict[str, dict[str, dict[str, T]]] = {}
        chains = list(chains)
        self.only: T | None = chains[0][1] if len(chains) == 1 and chains[0][0] == ANY_CONNECTION else None
        """The chain of every connection, whatever it says."""
        for match, found in chains:
            for name in match.server_names or ("",):
                by_protocol = self._by_name.setdefault(name, {}).setdefault(match.transport_protocol, {})
                for protocol in match.application_protocols or ("",):
                    if by_protocol.setdefault(protocol, found) is not found:
                        raise ValueError(f"two filter chains match alike: {match}")

    def find(self, hello: ClientHello | None) -> T | None:
        """The chain for what a client says; None where there is none. Without a `hello` it does not speak TLS."""
        names = _less_and_less_specific(hello.server_name) if hello is not None else iter(("",))
        by_transport = next((self._by_name[name] for name in names if name in self._by_name), {})
        transport = "raw_buffer" if hello is None else "tls"
        by_protocol = by_transport.get(transport) or by_transport.get("", {})
        protocols = hello.protocols if hello is not None else ()
        return next((by_protocol[one] for one in (*protocols, "") if one in by_protocol), None)


def _less_and_less_specific(server_name: str) -> Iterator[str]:
    """A name, `*.` and what is behind its first label, and so on; last the match of any."""
    if server_name:
        yield server_name
        rest = server_name
        while "." in rest:
            rest = rest.partition(".")[2]
            yield f"*.{rest}"
    yield ""
