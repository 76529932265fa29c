"""Repairs against a model of a broker: what it still has, everybody gets; whoever cannot be continued is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from gateway import repair as repairing
from gateway import telling
from gateway.protocol import repair
from tests.property.channels import FATAL, MENDABLE, ORDINARY, Model, Step, program


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    """Make pages of three publications, room for four small ones or two large ones, and turns for one to be told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repairing, "FIRST_PAGE", 3)
        patch.setattr(repair, "PAGE", 3)
        patch.setattr(repair, "HELD_LIMIT", 5 * repair.EVENT_COST)
        patch.setattr(telling, "TURN_RECIPIENTS", 1)
        yield


@given(steps=program((*ORDINARY, *MENDABLE)))
@settings(max_examples=300, deadline=None)
def test_what_history_still_has_nobody_misses_and_nobody_is_told(steps: list[Step]) -> None:
    """Lost, swapped and repeated publications, floods, rebuilt links, failing reads: clients notice nothing."""
    Model().run(steps)


@given(steps=program((*ORDINARY, *MENDABLE, *FATAL)))
@settings(max_examples=300, deadline=None)
def test_whatever_happens_every_log_is_whole_or_its_reader_was_told(steps: list[Step]) -> None:
    """Trimmed history and new epochs, too: no quiet gap, no repetition, no disorder."""
    Model().run(steps)
