"""Generated heads of HTTP/1.1 messages: mostly valid, then damaged, so that both kinds are met."""

from __future__ import annotations

from hypothesis import strategies as st

_TOKEN_CHARACTERS = b"!#$%&'*+-.^_`|~0123456789ABCxyz"
_TARGET_CHARACTERS = bytes(range(0x21, 0x7F)).replace(b"#", b"")
_VALUE_CHARACTERS = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])

# What tells parsers apart: line ends, white space of every kind, controls, separators, and ordinary characters.
_CRITICAL = st.sampled_from(
    [bytes((code,)) for code in b"\r\n\0\t\x0b\x0c\x1c\x1f \x7f\x80\x85\xa0\xff:;,#?/@%a0"]
    + [b"\r\n", b"\r\n ", b"\n\n", b"\r\r\n", b"\r\n\r\n", b"chunked", b"HTTP/1.1"]
)


def _text(characters: bytes, min_size: int = 0, max_size: int = 12) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(characters), min_size=min_size, max_size=max_size).map(bytes)


_names = st.one_of(
    st.sampled_from(b"Accept X-A x-a X-B Connection TE Cookie Upgrade".split()),
    _text(_TOKEN_CHARACTERS, min_size=1),
)
# What one parser takes for white space or a line end, and another for a character.
_odd_values = st.builds(
    lambda before, odd, behind: before + odd + behind,
    _text(b"ab", max_size=2),
    st.sampled_from([b"\x0b", b"\x0c", b"\r", b"\n", b"\0", b"\x1c", b"\x85", b"\xa0"]),
    _text(b"ab", max_size=2),
)
_values = st.one_of(_text(_VALUE_CHARACTERS), _text(b"ab \t", max_size=6), st.just(b"v" * 3000), _odd_values)
_white_space = st.sampled_from([b"", b" ", b"\t", b" \t "])
_plain_lines = st.builds(
    lambda name, before, value, behind: b"%b:%b%b%b\r\n" % (name, before, value, behind),
    _names,
    _white_space,
    _values,
    _white_space,
)
_framing_lines = st.builds(
    lambda name, value, behind: b"%b: %b%b\r\n" % (name, value, behind),
    st.sampled_from([b"Content-Length", b"content-length", b"Transfer-Encoding", b"HOST"]),
    st.sampled_from([b"5", b"5", b"5, 5", b"05", b"+5", b"chunked", b"Chunked", b"gzip, chunked", b""]),
    _white_space,
)
_field_lines = st.one_of(_plain_lines, _plain_lines, _plain_lines, _framing_lines)
_host_lines = st.sampled_from([b"Host: h.example\r\n", b"Host:h:80\r\n", b"host: h\t\r\n", b""])
_blocks = st.builds(
    lambda before, host, behind: b"".join([*before, host, *behind]),
    st.lists(_field_lines, max_size=3),
    _host_lines,
    st.lists(_field_lines, max_size=3),
)
_targets = st.one_of(
    st.sampled_from([b"/", b"/a?b=c", b"/", b"/a//b/../c", b"*", b"http://h.example/x"]),
    _text(_TARGET_CHARACTERS, min_size=1).map(lambda text: b"/" + text),
)
_versions = st.sampled_from([*[b"HTTP/1.1"] * 9, b"HTTP/1.0", b"HTTP/2.0", b"http/1.1"])
_tails = st.sampled_from([b"", b"", b"body", b"\r\n", b"\n", b"GET / HTTP/1.1\r\n"])

_request_heads = st.builds(
    lambda leading, method, target, version, block, tail: (
        b"%b%b %b %b\r\n%b\r\n%b" % (leading, method, target, version, block, tail)
    ),
    st.sampled_from([*[b""] * 8, b"\r\n", b"\r\n\r\n"]),
    st.sampled_from([b"GET", b"GET", b"POST", b"PUT", b"OPTIONS", b"DELETE", b"F!O"]),
    _targets,
    _versions,
    _blocks,
    _tails,
)
_response_heads = st.builds(
    lambda version, status, reason, block, tail: b"%b %b%b\r\n%b\r\n%b" % (version, status, reason, block, tail),
    _versions,
    st.sampled_from([b"200", b"101", b"103", b"204", b"304", b"404", b"599", b"999", b"099", b"20"]),
    st.one_of(st.sampled_from([b"", b" ", b" OK", b"  two\t"]), _text(_VALUE_CHARACTERS).map(lambda text: b" " + text)),
    _blocks,
    _tails,
)


@st.composite
def _damaged(draw: st.DrawFn, heads: st.SearchStrategy[bytes]) -> bytes:
    data = draw(heads)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["insert", "replace", "delete", "repeat"])):
            case "insert":
                data = data[:at] + draw(_CRITICAL) + data[at:]
            case "replace":
                data = data[:at] + draw(_CRITICAL) + data[at + 1 :]
            case "delete":
                data = data[:at] + data[at + draw(st.integers(1, 4)) :]
            case "repeat":
                data = data[:at] + data[at : at + 20] + data[at:]
    return data


request_heads = st.one_of(_request_heads, _damaged(_request_heads))
response_heads = st.one_of(_response_heads, _damaged(_response_heads))


@st.composite
def in_pieces(draw: st.DrawFn, wholes: st.SearchStrategy[bytes]) -> list[bytes]:
    """The bytes of one of `wholes`, cut anywhere; as likely into single bytes as into a few pieces."""
    data = draw(wholes)
    if draw(st.booleans()):
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if begin < end]
