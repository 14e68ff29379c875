"""YAML text becomes values and places, and no text whatever makes it raise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.resources import documents
from meshproxy.resources.documents import Document, Place, read_documents, resolve_scalar


def only(text: str) -> Document:
    [document] = read_documents(text.encode())
    return document


def flaws(text: str | bytes) -> list[tuple[int, int, str]]:
    raw = text.encode() if isinstance(text, str) else text
    return [(f.line, f.column, f.message) for document in read_documents(raw) for f in document.flaws]


@pytest.fixture(params=["libyaml", "pure"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of PyYAML's parsers; the pure one serves where libyaml is absent."""
    if request.param == "pure":
        monkeypatch.setattr(documents, "_Loader", yaml.SafeLoader)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8080", 8080),
        ("-1", -1),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("true", True),
        ("Yes", True),
        ("off", False),
        ("y", "y"),
        ("", None),
        ("~", None),
        ("null", None),
        ("22:22", "22:22"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("10.0.0.1", "10.0.0.1"),
        ("1s", "1s"),
        ("-", "-"),
        ("0x", "0x"),
        ("...", "..."),
    ],
)
def test_a_plain_scalar_means_what_it_means_to_kubernetes(text: str, value: object) -> None:
    assert (resolve_scalar(text), type(resolve_scalar(text))) == (value, type(value))


def test_quotes_and_the_str_tag_keep_a_scalar_text() -> None:
    assert only('a: "1"\nb: !!str 1\nc: ! 1\nd: |\n  1\n').value == {"a": "1", "b": "1", "c": "1", "d": "1\n"}


def test_json_is_read_as_the_yaml_it_is() -> None:
    assert only('{\n\t"a": [1, {"b": null}],\n\t"c":"d"\n}\n').value == {"a": [1, {"b": None}], "c": "d"}


def test_a_byte_order_mark_does_not_move_the_first_line() -> None:
    [document] = read_documents(b"\xef\xbb\xbfa: {b: 1}\n")
    assert (document.value, document.place.children["a"].key_column) == ({"a": {"b": 1}}, 1)


def test_utf16_with_a_byte_order_mark_is_read() -> None:
    [document] = read_documents("a: ä\n".encode("utf-16"))
    assert document.value == {"a": "ä"}


def test_empty_documents_are_left_out() -> None:
    assert [d.value for d in read_documents(b"---\n# nothing\n---\na: 1\n---\n...\n---\nb: 2\n")] == [
        {"a": 1},
        {"b": 2},
    ]


def test_a_file_without_documents_has_none() -> None:
    assert list(read_documents(b"# only a comment\n")) == []


def test_keys_are_text_whatever_they_look_like() -> None:
    assert only("80: a\ntrue: b\n").value == {"80": "a", "true": "b"}


def test_an_alias_repeats_its_anchor_at_a_place_of_its_own() -> None:
    document = only("a: &x {k: v}\nb: *x\n")
    assert document.value == {"a": {"k": "v"}, "b": {"k": "v"}}
    place, _ = document.place.find(("b",))
    assert (place.line, place.column, place.key_line) == (2, 4, 2)
    assert document.place.find(("b", "k"))[0].line == 1


def test_merge_keys_fill_in_what_the_mapping_does_not_say() -> None:
    document = only("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  a: 0\n  <<: [*x, *y]\n")
    assert document.value["z"] == {"a": 0, "b": 2, "c": 4}


def test_merging_something_else_than_a_mapping_is_a_flaw() -> None:
    assert flaws("a:\n  <<: 1\n") == [
        (2, 7, "'<<' merges mappings: give an alias of a mapping, or a list of such aliases")
    ]


def test_a_key_given_twice_is_a_flaw_at_the_second_that_names_the_first(loader: None) -> None:
    assert flaws("a:\n  b: 1\n  c: 2\n  b: 3\n") == [
        (4, 3, "key 'b' appears twice in one mapping, first in line 2; keep one")
    ]


def test_malformed_yaml_is_a_flaw_and_the_documents_around_it_are_read(loader: None) -> None:
    read = list(read_documents(b"a: 1\n---\nb: {\n---\nc: 3\n---\nd: ]\n---\ne: 5\n"))
    assert [d.value for d in read if not d.broken] == [{"a": 1}, {"c": 3}, {"e": 5}]
    broken = [d.flaws[0] for d in read if d.broken]
    assert [(f.line, f.message.startswith("malformed YAML: ")) for f in broken] == [(4, True), (7, True)]


def test_an_error_on_the_marker_line_is_told_once() -> None:
    assert [line for line, _, _ in flaws("a: 1\n--- b: c: d\n---\ne: 1\n")] == [2]


def test_a_tab_as_indentation_is_told_as_such(loader: None) -> None:
    assert flaws("a:\n\tb: 1\n") == [(2, 1, "malformed YAML: a tab cannot indent YAML; use spaces")]


def test_a_control_character_is_a_flaw_at_its_place(loader: None) -> None:
    assert flaws("a: 1\nb: x\x07y\n") == [
        (2, 5, "malformed YAML: this control character is not allowed in YAML; remove it")
    ]


def test_bytes_that_are_not_utf8_are_a_flaw_at_their_place() -> None:
    [(line, column, message)] = flaws("a: ä\nb: ö".encode() + b"\xff\n")
    assert (line, column) == (2, 5)
    assert "save the file as UTF-8" in message


@pytest.mark.parametrize("text", ["? [a, b]\n: 1\n", "? {a: b}\n: 1\n"])
def test_a_key_that_is_no_text_is_a_flaw(text: str) -> None:
    [(_, _, message)] = flaws(text)
    assert "a key has to be plain text" in message


def test_an_unknown_tag_is_a_flaw() -> None:
    assert flaws("a: !secret b\n") == [(1, 4, "tag !secret does not fit here; write the value without a tag")]


@pytest.mark.parametrize("text", ["a: *b\n", "a: &a [*a]\n"])
def test_an_alias_without_a_finished_anchor_is_a_flaw(text: str, loader: None) -> None:
    [(line, _, message)] = flaws(text)
    assert line == 1
    assert "write the value out" in message


def test_aliases_that_multiply_are_bounded() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for this, last in zip("bcdefghij", "abcdefghi", strict=True):
        bomb += f"{this}: &{this} [{', '.join([f'*{last}'] * 10)}]\n"
    [(_, _, message)] = flaws(bomb + "---\nnext: 1\n")
    assert message.startswith(f"the document has more than {documents.MAX_NODES} values")
    assert [d.value for d in read_documents(f"{bomb}---\nnext: 1\n".encode()) if not d.broken] == [{"next": 1}]


@pytest.mark.parametrize("text", ["[" * 900 + "]" * 900, "".join(f"{' ' * n}a:\n" for n in range(200))])
def test_nesting_is_bounded_and_the_next_document_is_read(text: str, loader: None) -> None:
    read = list(read_documents(f"{text}\n---\nnext: 1\n".encode()))
    assert read[0].flaws[0].message == "nested deeper than 64 levels; no resource is that deep"
    assert read[1].value == {"next": 1}


# Every text is its own key or value, so that finding it at its place proves the place.
_WORDS = st.integers(0, 10**6).map(lambda n: f"w{n}ä")
_TREES = st.recursive(
    _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=20,
)


def _check_places(value: Any, place: Place, lines: list[str]) -> None:
    here = lines[place.line - 1][place.column - 1 :]
    if isinstance(value, str):
        assert here.startswith(value)
        return
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        child = place.children[key]
        if isinstance(value, dict):
            assert lines[child.key_line - 1][child.key_column - 1 :].startswith(key)
        _check_places(item, child, lines)


@given(tree=st.dictionaries(_WORDS, _TREES), flow=st.sampled_from([True, False, None]), indent=st.integers(2, 8))
def test_every_value_and_key_stands_where_its_place_says(tree: Any, flow: bool | None, indent: int) -> None:
    text = "# first\n" + yaml.safe_dump(tree, default_flow_style=flow, indent=indent, allow_unicode=True, width=10**6)
    document = only(text)
    assert document.value == tree
    _check_places(document.value, document.place, text.split("\n"))


_YAMLISH = st.text("ab:{}[],-&*!|>'\"#%@?<~ \n\t\r0123\x00\x07\ufeff\u2028é", max_size=80)


@given(_YAMLISH.map(str.encode) | st.binary(max_size=60))
def test_no_text_makes_reading_raise(raw: bytes) -> None:
    for document in read_documents(raw):
        assert all(flaw.line >= 1 and flaw.column >= 1 for flaw in document.flaws)
