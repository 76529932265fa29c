from __future__ import annotations

import json
import time

import pytest

from gateway.protocol.payloads import DEEPEST, LONGEST_NUMBER, unfit
from tests.support.exactness import within

DIGITS = b"7" * (LONGEST_NUMBER - 1)
WIDE = b"[" + b",".join([b'{"a":[1,2]}'] * 200) + b"]"


def nested(depth: int, inner: bytes = b"1") -> bytes:
    """Return arrays and objects in turns, so deep."""
    for level in range(depth):
        inner = b"[" + inner + b"]" if level % 2 else b'{"a":' + inner + b"}"
    return inner


FIT = {
    "small": b'{"text":"hi"}',
    "as deep as allowed": nested(DEEPEST),
    "wide": WIDE,
    "wide and as deep as allowed": nested(DEEPEST - 3, WIDE),
    "brackets in a text": json.dumps("[{" * 500).encode(),
    "brackets behind an escaped quote": json.dumps('"' + "[" * 500).encode(),
    "digits in a text": json.dumps("7" * 5000).encode(),
    "longest number": b"[" + DIGITS + b"]",
    "many numbers": b"[" + b"123456," * 500 + b"1]",
    "long and without digits": b'"' + b"a" * 5000 + b'"',
}
UNFIT = {
    "too deep": nested(DEEPEST + 1),
    "only arrays": b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
    "only objects": b'{"a":' * DEEPEST + b"{}" + b"}" * DEEPEST,
    "deep beside wide": b"[" + WIDE + b"," + nested(DEEPEST) + b"]",
    "a longer number": DIGITS + b"7",
    "a longer number somewhere": b'{"a":"' + b"a" * 777 + b'","b":[-7' + DIGITS + b",1]}",
}


@pytest.mark.parametrize("name", FIT)
def test_what_other_parsers_take_is_fit(name: str) -> None:
    """However it looks at first sight."""
    assert "" == unfit(FIT[name])


@pytest.mark.parametrize("name", UNFIT)
def test_what_other_parsers_refuse_is_unfit(name: str) -> None:
    """Nested too deep, or a number too long, and it says which."""
    json.loads(UNFIT[name])
    assert ("digits" if "number" in name else "deep") in unfit(UNFIT[name])


@pytest.mark.parametrize(
    "data",
    [b"[" * 32_000 + b"]" * 32_000, b"[" + b"[]," * 20_000 + b"1]", b"[" + b"[[[[[]]]]]," * 6_000 + b"1]"],
    ids=["deep", "flat", "five deep"],
)
def test_the_look_is_short_whatever_there_is(data: bytes) -> None:
    """The largest message takes milliseconds at most, or as many tens while traced: nobody else may have to wait.

    What looks again at what it has seen would take seconds.
    """
    times = []
    for _ in range(3):
        began = time.thread_time()
        unfit(data)
        times.append(time.thread_time() - began)
    assert min(times) < within(0.02, otherwise=5.0)
