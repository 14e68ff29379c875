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


class Departures:
    """The connections with a request under way from which nobody reads, oldest first."""

    __slots__ = ("_patience_s", "_waiting")

    def __init__(self, patience_s: float = 0.05) -> None:
        self._patience_s = patience_s
        self._waiting: dict[Watchable, bool] = {}

    def enter(self, connection: Watchable) -> None:
        """It has a request under way, and whatever of that has yet to come is not being read."""
        self._waiting[connection] = False

    def leave(self, connection: Watchable) -> None:
        """It has been answered, or is being read from."""
        self._waiting.pop(connection, None)

    async def run(self) -> None:
        """Have every connection watched that has waited for between one and two times the patience."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._patience_s)
                waiting = self._waiting
                for connection in [one for one, seen in waiting.items() if seen]:
                    del waiting[connection]
                    connection.watch(nursery)
                for connection in waiting:
                    waiting[connection] = True
