"""Servers that stand in for endpoints: they remember what they receive, and answer as the test has said.

HTTP/1.1 by h11, which is plain and strict; a stand-in is no place for speed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import h11
import trio

from ..snapshot import Address, SocketAddress

_RECEIVE_SIZE = 65536
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Received:
    """A request as a stand-in received it. Names of headers are lower case; repeated ones are joined by commas."""

    method: str
    path: str
    authority: str
    headers: Mapping[str, str]
    body: bytes
    backend: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a stand-in answers with. Raises `ValueError` for a status that no final response has (RFC 9110, 15)."""

    status: int = 200
    body: bytes | str = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in range(200, 600):
            raise ValueError(f"the status of an answer is from 200 to 599, not {self.status}")


Script = Answer | Callable[[Received], Answer]
"""An answer, or what makes one of a request. In a synchronous test it is called in the mesh's own thread."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What leads to a stand-in: a port of a service, or of one of its subsets."""

    host: str
    port: int
    subset: str


class StandIn:
    """A server in the place of one endpoint.

    `name` is the endpoint's address as the resources have it, `clusters` are what leads to it, and `received` holds
    every request, in order. Unless told otherwise it answers with 200 and its name.

    `errors` are what scripts raised, and what is wrong with their answers. They are kept and not raised where they
    happen: the client sees its connection end, and the test may be over before the server's task has ended with it.
    """

    def __init__(self, name: str, clusters: tuple[Cluster, ...]) -> None:
        self.name = name
        self.clusters = clusters
        self.received: list[Received] = []
        self.errors: list[BaseException] = []
        self._scripts: list[Script] = [Answer(body=f"{name}\n")]
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)

    def __repr__(self) -> str:
        return f"<StandIn {self.name}: {len(self.received)} requests>"

    @property
    def address(self) -> Address:
        """Where it really listens."""
        return SocketAddress(*self._socket.getsockname()[:2])

    def answers(self, *scripts: Script) -> None:
        """Answer with these from now on, one after the other; the last stays."""
        if not scripts:
            raise ValueError("give at least one answer")
        self._scripts = list(scripts)

    async def serve(self) -> None:
        """Serve until cancelled."""
        listening = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        async with trio.open_nursery() as nursery:
            await trio.serve_listeners(self._serve, [listening], handler_nursery=nursery)

    def close(self) -> None:
        """Give up its port."""
        self._socket.close()

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
                connection = h11.Connection(h11.SERVER)
                while await self._exchange(connection, stream):
                    connection.start_next_cycle()

    async def _exchange(self, connection: h11.Connection, stream: trio.SocketStream) -> bool:
        """Answer one request; returns whether the connection can carry another."""
        request, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    await stream.send_all(
                        _bytes(connection.send(h11.InformationalResponse(status_code=100, headers=[])))
                    )
                connection.receive_data(await stream.receive_some(_RECEIVE_SIZE))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert request is not None
        received = self._received(request, body)
        self.received.append(received)
        try:
            answer = _written(connection, self._answer(received), request.method == b"HEAD")
        except BaseException as error:  # such as that of pytest.fail; nothing is awaited, so that none is trio's
            self.errors.append(error)
            return False
        await stream.send_all(answer)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    def _received(self, request: h11.Request, body: bytes) -> Received:
        headers: dict[str, str] = {}
        for name, value in ((n.decode("latin-1"), v.decode("utf-8", "backslashreplace")) for n, v in request.headers):
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        authority = headers.pop("host", "")
        return Received(request.method.decode(), request.target.decode(), authority, headers, bytes(body), self.name)

    def _answer(self, received: Received) -> Answer:
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        return script if isinstance(script, Answer) else script(received)


def _written(connection: h11.Connection, answer: Answer, head_only: bool) -> bytes:
    body = answer.body.encode() if isinstance(answer.body, str) else answer.body
    headers = [(name.lower(), value) for name, value in answer.headers.items()]
    bodiless = answer.status in (204, 304)
    if not bodiless and not any(name in ("content-length", "transfer-encoding") for name, _ in headers):
        headers.append(("content-length", str(len(body))))
    data = _bytes(connection.send(h11.Response(status_code=answer.status, headers=headers)))
    if not (head_only or bodiless):
        data += _bytes(connection.send(h11.Data(data=body)))
    return data + _bytes(connection.send(h11.EndOfMessage()))


def _bytes(data: bytes | None) -> bytes:
    return data or b""
