from __future__ import annotations

import inspect

import pytest

from gateway.protocol import compact as protocol
from gateway.transports import events
from gateway.types import ClientInfo, Compact, ConnectionId, Position, Publication, UserId

KINDS = [
    kind
    for kind in (Position, ClientInfo, Publication, *vars(protocol).values(), *vars(events).values())
    if isinstance(kind, type) and issubclass(kind, Compact) and kind is not Compact
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda it: it.__name__)
def test_every_field_is_named_in_the_order_of_the_constructor(kind: type[Compact]) -> None:
    """None is left out of comparisons, and none stands where a pattern or a reader of its repr would not expect it."""
    parameters = tuple(inspect.signature(kind).parameters) if kind.__match_args__ else ()
    assert parameters == kind.__match_args__
    assert sorted(parameters) == sorted(kind.__slots__)


def test_equal_are_records_of_one_kind_whose_fields_are_equal() -> None:
    """Any field counts, and so does the kind."""
    assert Position(1, "e") == Position(1, "e")
    assert Position(1, "e") != Position(2, "e")
    assert Position(1, "e") != Position(1, "f")
    assert events.Answer(b"x") != protocol.Send(protocol.Reply(1, "x"))  # type: ignore[arg-type] # any value will do
    assert Publication(b"1", info=ClientInfo(UserId("u"), ConnectionId("c"))) == Publication(
        b"1", info=ClientInfo(UserId("u"), ConnectionId("c"))
    )


def test_a_record_shows_its_fields() -> None:
    """As one would write it, so that a failed comparison can be read."""
    assert "Position(offset=1, epoch='e')" == repr(Position(1, "e"))


def test_a_record_is_no_key() -> None:
    """It may change."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(Position(1, "e"))
