"""The oracle must see every kind of offence, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from gateway.types import Position
from loadtests.oracle import KINDS, SHOWN, Kind, Ledger, Log, Verdict, verify

CHANNEL = "load:1"


class Run:
    """One channel, one publisher, some logs."""

    def __init__(self, *clients: str) -> None:
        self.ledger = Ledger()
        self.logs = {it: Log(it, CHANNEL, self.ledger) for it in clients or ("ann", "bob")}
        self.top = Position(0, "e")

    def publish(self, *numbers: int) -> None:
        """Publish these numbers, each acknowledged at the next place."""
        for number in numbers:
            self.top = Position(self.top.offset + 1, self.top.epoch)
            self.ledger.publishing(CHANNEL, number)
            self.ledger.acknowledged(CHANNEL, number, self.top)

    def restart(self, epoch: str) -> None:
        """Begin the stream anew, as a server does that lost it."""
        self.top = Position(0, epoch)

    def all_subscribe(self) -> None:
        """Subscribe from where the stream is."""
        for log in self.logs.values():
            log.subscribed(self.top, recovered=False, asked=False)

    def all_see(self, *pairs: tuple[int, int]) -> None:
        """Let everybody see these offsets and numbers."""
        for log in self.logs.values():
            for offset, number in pairs:
                log.publication(offset, number)

    def verdict(self, tops: Mapping[str, Position] | None = None) -> Verdict:
        """Judge."""
        return verify(self.ledger, self.logs.values(), {CHANNEL: self.top} if tops is None else tops)


@pytest.fixture(name="run")
def _run() -> Run:
    """Return a run of three publications that everybody saw."""
    run = Run()
    run.all_subscribe()
    run.publish(1, 2, 3)
    run.all_see((1, 1), (2, 2), (3, 3))
    return run


def test_a_perfect_run_is_clean(run: Run) -> None:
    """Everything once and in order: nothing to complain about, and all of it counted."""
    verdict = run.verdict()
    assert verdict.clean
    assert (2, 1, 6, 3) == (verdict.logs, verdict.channels, verdict.deliveries, verdict.acknowledged)
    assert str(verdict).startswith("clean: 2 logs of 1 channels, 6 deliveries")


def _gap(run: Run) -> None:
    run.publish(4, 5, 6)
    run.all_see((6, 6))


def _tail(run: Run) -> None:
    run.publish(4)


def _old_epoch(run: Run) -> None:
    run.restart("f")


def _recovered_into_another_epoch(run: Run) -> None:
    run.restart("f")
    for log in run.logs.values():
        log.away()
        log.subscribed(Position(0, "f"), recovered=True, asked=True)


def _publication_of_another_epoch(run: Run) -> None:
    run.restart("f")
    run.publish(4)
    for log in run.logs.values():
        log.publication(1, 4, "f")


def _late(run: Run) -> None:
    run.publish(4, 5)
    run.all_see((5, 5), (4, 4))


def _before_any_subscription(run: Run) -> None:
    run.logs["eve"] = Log("eve", CHANNEL, run.ledger)
    run.logs["eve"].publication(3, 3)
    run.logs["eve"].subscribed(run.top, recovered=False, asked=False)


def _without_history_out_of_order(run: Run) -> None:
    log = run.logs["eve"] = Log("eve", "plain", run.ledger)
    log.subscribed(Position(0, ""), recovered=False, asked=False)
    log.publication(0, 2)
    log.publication(0, 1)


def _other_content(run: Run) -> None:
    run.ledger.publishing(CHANNEL, 4)
    run.ledger.publishing(CHANNEL, 5)
    run.top = Position(4, "e")
    run.logs["ann"].publication(4, 4)
    run.logs["bob"].publication(4, 5)


def _stored_twice(run: Run) -> None:
    run.publish(4)
    run.top = Position(5, "e")
    run.all_see((4, 4), (5, 4))


def _acknowledged_out_of_order(run: Run) -> None:
    for number, offset in ((4, 5), (5, 4)):
        run.ledger.publishing(CHANNEL, number)
        run.ledger.acknowledged(CHANNEL, number, Position(offset, "e"))
    run.top = Position(5, "e")
    run.all_see((4, 5), (5, 4))


def _lost_under_the_same_epoch(run: Run) -> None:
    run.publish(4)
    run.top = Position(3, "e")


def _refused_and_yet_delivered(run: Run) -> None:
    run.ledger.publishing(CHANNEL, 4)
    run.top = Position(4, "e")
    run.all_see((4, 4))
    run.ledger.refused(CHANNEL, 4)


def _unsent_and_yet_delivered(run: Run) -> None:
    run.ledger.unsent(CHANNEL, 4)
    run.top = Position(4, "e")
    run.all_see((4, 4))


def _never_published(run: Run) -> None:
    run.top = Position(4, "e")
    run.all_see((4, 4))


OFFENCES: tuple[tuple[Kind, int, Callable[[Run], None]], ...] = (
    ("silent gap", 2, _gap),
    ("silent tail", 2, _tail),
    ("silent epoch", 2, _old_epoch),
    ("silent epoch", 2, _recovered_into_another_epoch),
    ("silent epoch", 2, _publication_of_another_epoch),
    ("inversion", 2, _late),
    ("inversion", 1, _before_any_subscription),
    ("inversion", 1, _without_history_out_of_order),
    ("two histories", 1, _other_content),
    ("duplicate", 1, _stored_twice),
    ("disordered stream", 1, _acknowledged_out_of_order),
    ("vanished", 1, _lost_under_the_same_epoch),
    ("ghost", 1, _refused_and_yet_delivered),
    ("ghost", 1, _unsent_and_yet_delivered),
    ("ghost", 1, _never_published),
)


def test_a_server_that_lost_its_keys_may_take_a_message_twice(run: Run) -> None:
    """Two places in two epochs are excused when that is known of a run; two places in one never are."""
    run.restart("f")
    run.publish(3)
    for log in run.logs.values():
        log.told("unsubscribed")
        log.subscribed(run.top, recovered=False, asked=False)
        log.publication(1, 3, "f")
    assert run.verdict().count("duplicate") == 1
    run.ledger = Ledger()
    run.ledger.keys_lost = True
    for epoch, offset in (("e", 3), ("f", 1), ("f", 2)):
        run.ledger.saw(CHANNEL, Position(offset, epoch), 3, "somebody")
    (offence,) = run.ledger.page(CHANNEL).offences
    assert ("duplicate", "f", 2) == (offence.kind, offence.epoch, offence.first)


@pytest.mark.parametrize(("kind", "count", "do"), OFFENCES, ids=lambda it: getattr(it, "__name__", None))
def test_each_offence_is_seen(run: Run, kind: Kind, count: int, do: Callable[[Run], None]) -> None:
    """One offence is counted under its kind, once for each who suffered it, and named in the summary."""
    do(run)
    verdict = run.verdict({CHANNEL: run.top, "plain": Position(0, "")})
    assert not verdict.clean
    assert count == verdict.count(kind), verdict
    assert kind in str(verdict)


def test_no_kind_is_untested() -> None:
    """Whoever adds a kind of offence shows that it is seen."""
    assert set(KINDS) == {kind for kind, _, _ in OFFENCES}


def test_offsets_of_a_gap_are_named(run: Run) -> None:
    """A gap names client, channel, epoch and offsets; two holes are two gaps."""
    run.publish(4, 5, 6, 7, 8)
    run.logs["bob"].publication(6, 6)
    run.logs["bob"].publication(8, 8)
    run.logs["ann"].publication(4, 4)
    gaps = [str(it) for it in run.verdict().offences if it.kind == "silent gap"]
    assert [
        "silent gap: bob in load:1, offset 4-5 of epoch 'e'",
        "silent gap: bob in load:1, offset 7 of epoch 'e'",
    ] == gaps


def test_holes_of_two_epochs_are_two_gaps(run: Run) -> None:
    """The same offsets in two epochs are different publications."""
    log = run.logs["bob"]
    log.publication(5, 5)
    log.told("unsubscribed")
    log.subscribed(Position(4, "f"), recovered=False, asked=True)
    log.publication(6, 6)
    assert [("e", 4, 4), ("f", 5, 5)] == [(it.epoch, it.first, it.last) for it in log.offences]


def test_an_ordinary_return_is_clean(run: Run) -> None:
    """Who was away gets what it missed with its subscription."""
    bob = run.logs["bob"]
    bob.away()
    run.publish(4, 5)
    run.logs["ann"].publication(4, 4)
    run.logs["ann"].publication(5, 5)
    bob.subscribed(Position(3, "e"), recovered=True, asked=True, publications=[(4, 4), (5, 5)])
    assert run.verdict().clean
    assert not run.verdict().told


def test_a_recovery_that_leaves_a_hole_is_a_gap(run: Run) -> None:
    """`recovered: true` is a promise."""
    run.publish(4, 5)
    run.all_see((4, 4), (5, 5))
    bob = run.logs["eve"] = Log("eve", CHANNEL, run.ledger)
    bob.subscribed(Position(3, "e"), recovered=False, asked=False)
    bob.subscribed(Position(3, "e"), recovered=True, asked=True, publications=[(5, 5)])
    assert run.verdict().count("silent gap") == 1


def test_a_loss_that_was_told_is_none(run: Run) -> None:
    """The stream began anew, everybody was told: what was acknowledged is forgotten with notice."""
    run.restart("f")
    run.publish(4)
    for log in run.logs.values():
        log.told("unsubscribed")
        log.subscribed(Position(0, "f"), recovered=False, asked=True)
        log.publication(1, 4, "f")
    verdict = run.verdict()
    assert verdict.clean, verdict
    assert verdict.forgotten == 3
    assert {"unsubscribed": 2, "unrecovered": 2} == verdict.tells
    assert {("ann", CHANNEL): 2, ("bob", CHANNEL): 2} == verdict.told
    assert "told: 2 unrecovered, 2 unsubscribed" in str(verdict)


def test_who_was_away_for_too_long_is_told(run: Run) -> None:
    """The epoch is the same, the history did not reach back: what is missing was said."""
    run.publish(4, 5)
    for log in run.logs.values():
        log.away()
        log.subscribed(Position(5, "e"), recovered=False, asked=True)
    verdict = run.verdict()
    assert verdict.clean, verdict
    assert {"unrecovered": 2} == verdict.tells


def test_one_untold_listener_is_one_too_many(run: Run) -> None:
    """What went with its epoch has vanished if a single one who listened then does not know."""
    run.restart("f")
    ann, bob = run.logs.values()
    ann.told("disconnected")
    ann.subscribed(Position(0, "f"), recovered=False, asked=True)
    verdict = run.verdict()
    assert verdict.count("vanished") == 3
    assert bob.client in str(verdict)
    assert verdict.silent == 4  # and its epoch is an old one


def test_nobody_is_wronged_by_what_nobody_listened_to() -> None:
    """Losses in a channel without clients are nobody's."""
    run = Run()
    run.publish(1)
    run.restart("f")
    run.logs.clear()
    verdict = run.verdict()
    assert verdict.clean
    assert verdict.forgotten == 0


def test_repeats_on_the_wire_are_counted_and_forgiven(run: Run) -> None:
    """A client drops them by offset."""
    run.all_see((3, 3))
    verdict = run.verdict()
    assert verdict.clean
    assert verdict.repeats == 2


def test_doubt_is_no_offence(run: Run) -> None:
    """What had no answer may be delivered, or not; an answer without a position says only that it was taken."""
    run.ledger.publishing(CHANNEL, 4)
    run.publish(5)
    run.ledger.doubtful(CHANNEL, 6)
    run.ledger.acknowledged(CHANNEL, 7)
    run.ledger.refused(CHANNEL, 8)
    run.all_see((4, 5))
    verdict = run.verdict()
    assert verdict.clean, verdict
    assert (5, 1, 2) == (verdict.acknowledged, verdict.refused, verdict.doubtful)


def test_who_is_not_there_cannot_be_judged(run: Run) -> None:
    """A client that is away, or a channel that could not be read, keeps the verdict from being clean."""
    assert run.verdict({}).absent == 2
    run.logs["bob"].away()
    verdict = run.verdict()
    assert (1, False) == (verdict.absent, verdict.clean)
    assert not verdict.offences


def test_a_stream_that_gets_its_epoch_later_is_the_same() -> None:
    """Who subscribed before the first publication learns the epoch with it."""
    run = Run("ann")
    run.logs["ann"].subscribed(Position(0, ""), recovered=False, asked=False)
    run.publish(1)
    run.logs["ann"].publication(1, 1, "e")
    assert run.verdict().clean


def test_channels_without_history_promise_order_alone() -> None:
    """Numbers that were passed over are counted, from the first that was seen."""
    run = Run("ann")
    run.logs["ann"].subscribed(Position(0, ""), recovered=False, asked=False)
    for number in (5, 6, 9):
        run.logs["ann"].publication(0, number)
    run.top = Position(0, "")
    assert run.verdict().clean
    assert run.verdict().skipped == 2


def test_a_summary_names_the_first_of_many() -> None:
    """A thousand offenders are counted, five are named."""
    run = Run(*(f"client-{it}" for it in range(9)))
    run.all_subscribe()
    run.publish(1)
    said = str(run.verdict())
    assert said.startswith("BROKEN")
    assert said.count("silent tail: client-") == SHOWN
    assert "... and 4 more of kind 'silent tail'" in said
