"""Who has left? Clients that go away while their request waits upstream.

A client's departure must cancel what is done for it, but the common, fast answer must not pay for a watcher: measured,
a task costs as much as half a request. So requests are only noted here when they begin, and a connection is watched
once its answer has been out for some milliseconds.
"""

from __future__ import annotations

from typing import Protocol

import trio


class Watchable(Protocol):
    """A connection that can find out whether its client has left."""

    def watch(self, nursery: trio.Nursery) -> None: ...


class Departures(dict[Watchable, bool]):
    """The connections with a request under way from which nobody reads, oldest first: False, or True if seen before.

    A connection enters itself with False, and pops itself when it has been answered or is being read from.
    """

    def __init__(self, patience_s: float = 0.05) -> None:
        self._patience_s = patience_s

    async def run(self) -> None:
        """Have every connection watched that has waited for between one and two times the patience."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._patience_s)
                for connection in [one for one, seen in self.items() if seen]:
                    del self[connection]
                    connection.watch(nursery)
                for connection in self:
                    self[connection] = True
