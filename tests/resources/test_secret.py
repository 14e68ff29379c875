"""Kubernetes Secrets: read, held to their form, and in no message."""

from __future__ import annotations

import base64
import io

from meshproxy.resources import Loaded, Secret, load


def loaded(body: str) -> Loaded:
    text = f"{{apiVersion: v1, kind: Secret, metadata: {{name: web, namespace: istio-system}}, {body}}}"
    return load(["-"], stdin=io.BytesIO(text.encode()))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_the_texts_of_a_secret_are_decoded_and_those_that_are_plain_go_before() -> None:
    [secret] = loaded(
        f"type: Opaque, data: {{a: {encoded('A')}, b: {encoded('B')}, e: ''}}, stringData: {{b: plain}}"
    ).of(Secret)
    assert secret.spec.texts() == {"a": "A", "b": "plain"}


def test_bytes_that_are_no_text_do_no_harm_where_nobody_looks_at_them() -> None:
    raw = base64.b64encode(b"\xff\xfe").decode()
    found = loaded(f"data: {{blob: {raw}, tls.crt: {raw}}}")
    assert [(one.path, one.message) for one in found.problems] == [
        ('data["tls.crt"]', "is no text, so that it is not in PEM")
    ]


def test_what_is_wrong_is_told_and_nothing_of_what_is_secret() -> None:
    found = loaded("type: kubernetes.io/tls, data: {tls.crt: hush hush!}")
    assert [one.message for one in found.problems] == [
        "is required by type: kubernetes.io/tls",
        "is not base64; encode it, or write it as it is into stringData",
    ]
    assert "hush" not in str(found.problems)
    [secret] = loaded("stringData: {key: hush}").of(Secret)
    assert "hush" not in repr(secret)


def test_a_value_of_another_type_is_refused_without_being_shown() -> None:
    found = loaded("stringData: {key: [hush]}")
    assert found.problems
    assert "hush" not in str(found.problems)
