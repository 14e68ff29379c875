"""Keys fetched over real sockets: bounded in size and in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from meshproxy.identity.issuers import MAX_BYTES, fetch


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[str]:
    """A server that says `answer` to whoever asks; its URL."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        if answer:
            await stream.aclose()
        else:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/keys"
        nursery.cancel_scope.cancel()


def response(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


async def test_a_document_is_fetched() -> None:
    async with server(response(b'{"keys": []}')) as url:
        assert await fetch(url, 5.0) == b'{"keys": []}'


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (response(b"", "404 Not Found"), ValueError, "status 404"),
        (response(b"", "302 Found\r\nlocation: http://127.0.0.1:1/"), ValueError, "status 302"),
        (response(b"x" * (MAX_BYTES + 1)), ValueError, "more than"),
        (b"nonsense\r\n\r\n", OSError, "illegal"),
    ],
)
async def test_what_is_no_good_answer_is_an_error(answer: bytes, error: type[Exception], message: str) -> None:
    async with server(answer) as url:
        with pytest.raises(error, match=message):
            await fetch(url, 5.0)


async def test_an_issuer_that_says_nothing_is_not_waited_for() -> None:
    async with server(b"") as url:
        with pytest.raises(OSError, match=r"no answer in 0\.05 s"):
            await fetch(url, 0.05)


async def test_an_issuer_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError):
        await fetch("http://127.0.0.1:1/", 5.0)
