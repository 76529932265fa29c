"""What publications say, and how they are read."""

from __future__ import annotations

import orjson
import pytest

from loadtests.clients.publications import ELSEWHERE, KNOWN, Heard, Hearsay, Stamp

STAMP = Stamp("here", 100)


def push(channel: str, data: bytes, offset: int = 0) -> bytes:
    """Build a push."""
    at = b',"offset":%d,"epoch":"e"' % offset if offset else b""
    return b'{"push":{"channel":"%b","pub":{"data":%b%b}}}' % (channel.encode(), data, at)


@pytest.mark.parametrize(("number", "due"), [(1, 1), ((1 << 52) + 7, 10**13)])
def test_data_is_of_the_wanted_size_and_says_all(number: int, due: int) -> None:
    """However long its numbers are."""
    data = STAMP.data(number, due)
    assert len(data) == 100
    told = orjson.loads(data)
    assert (number, due, "here") == (told["n"], told["t"], told["h"])


def test_what_must_be_said_is_said_in_little_room() -> None:
    """It is longer than it should be, and still JSON."""
    assert orjson.loads(Stamp("here", 40).data(10**15, 10**13))["p"] == ""


def test_clocks_of_others_are_not_compared() -> None:
    """What was stamped elsewhere is counted and not timed; what is no publication of ours has number 0."""
    data = orjson.loads(Stamp("elsewhere", 80).data(5, 7))
    assert Heard("c", 0, 5, "", ELSEWHERE) == STAMP.read("c", {"data": data})
    assert Heard("c", 3, 0, "e", ELSEWHERE) == STAMP.read("c", {"data": "x", "offset": 3, "epoch": "e"})


@pytest.mark.parametrize("padding", ["", "x", "xx\u00e9x", None, 5], ids=repr)
def test_what_came_with_other_data_is_damaged(padding: object) -> None:
    """Truncated, changed or without its padding: it is none of ours any more, whatever its number says."""
    stamp = Stamp("here", 100)
    whole = orjson.loads(stamp.data(5, 7))
    assert Heard("c", 0, 5, "", 7) == stamp.read("c", {"data": whole})
    assert 0 == stamp.damaged
    assert Heard("c", 2, 0, "", ELSEWHERE) == stamp.read("c", {"data": {**whole, "p": padding}, "offset": 2})
    assert 1 == stamp.damaged


def test_frames_of_publications_alone_are_read_at_once() -> None:
    """Several in a frame, with and without history; the second reader of the same bytes gets the same objects."""
    hearsay = Hearsay(STAMP)
    frame = push("a", STAMP.data(1, 11)) + b"\n" + push("b", STAMP.data(2, 12), 9)
    found = hearsay.publications(frame)
    assert (Heard("a", 0, 1, "", 11), Heard("b", 9, 2, "e", 12)) == found
    assert hearsay.publications(bytes(bytearray(frame))) is found


@pytest.mark.parametrize(
    "frame",
    [
        b'{"id":1,"publish":{}}',
        b"{}",
        b'{"push":{"channel":"a","join":{}}}',
        push("a", STAMP.data(1, 1)) + b"\n" + b'{"id":1}',
        push("a", STAMP.data(1, 1)) + b"\n",
    ],
)
def test_frames_with_something_else_are_for_others(frame: bytes) -> None:
    """They are not guessed at."""
    assert Hearsay(STAMP).publications(frame) is None


def test_what_is_remembered_is_bounded() -> None:
    """A run of a million publications does not keep them."""
    hearsay = Hearsay(STAMP)
    for number in range(3 * KNOWN):
        hearsay.publications(push("a", STAMP.data(number, 1)))
    assert len(hearsay._known) <= KNOWN
