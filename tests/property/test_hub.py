"""Hub and relay against a model of one channel's stream: whatever the order of events, nobody misses or repeats."""

from __future__ import annotations

from hypothesis import given, settings

from tests.property.channels import ORDINARY, Model, Step, program


@given(steps=program(ORDINARY))
@settings(max_examples=400, deadline=None)
def test_without_trouble_everybody_gets_everything_once_and_nobody_is_told(steps: list[Step]) -> None:
    """Joins, leaves, delays and repetitions alone cost nobody a publication, an event, or a subscription."""
    Model().run(steps)
