"""JSON on its way out and in."""

from __future__ import annotations

import json

import pytest

from gateway.codecs._json import _QUOTED, REMEMBERED, dump, mend_surrogates, one_line, quoted


@pytest.mark.parametrize(
    "value", ["", "a", 'q"\\', "grüß dich", None, 5, 2**80, {"a": [1, True]}, "\ud83d", {"\ud83d": 1}]
)
def test_dump_round_trips(value: object) -> None:
    """Every value we encode comes back as it was, the ones that orjson refuses too."""
    assert value == json.loads(dump(value))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a":1}', b'{"a":1}'),
        (b'{\n "a":\r\n1}', b'{  "a":  1}'),
        (b"[1,\n2]", b"[1, 2]"),
        (b"[1,\r2]", b"[1, 2]"),
        (b'"a\\nb"', b'"a\\nb"'),
        (b"", b"null"),
    ],
)
def test_one_line(data: bytes, expected: bytes) -> None:
    """Line ends between tokens go, those inside strings are escapes and stay, nothing becomes null."""
    assert expected == one_line(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (rb'"plain"', rb'"plain"'),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDE00x"', rb'"\ufffdx"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\\\ud83d\n"', rb'"\\\ufffd\n"'),
        (rb'"\u0041\t"', rb'"\u0041\t"'),
        (b'"\\', b'"\\'),
    ],
)
def test_mend_surrogates(data: bytes, expected: bytes) -> None:
    """Only surrogates without a partner are replaced, and an escaped backslash is not taken for the start of one."""
    assert expected == mend_surrogates(data)


def test_names_are_remembered_up_to_an_end() -> None:
    """Clients make up names: what is remembered of them does not grow for ever, and is never wrong."""
    for number in range(REMEMBERED + 10):
        assert b'"n%d"' % number == quoted(f"n{number}")
        assert len(_QUOTED) <= REMEMBERED
    assert b'"n1"' == quoted("n1") == quoted("n1")
