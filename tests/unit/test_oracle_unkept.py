"""Channels without history, several speakers, several processes: the oracle must count what is missing there, too."""

from __future__ import annotations

import msgspec
import pytest

from gateway.types import Position
from loadtests.oracle import SPEAKER, Ledger, Log, LogDump, PageDump, Verdict, plain, revived, verify

CHANNEL = "plain:1"
ANN, BOB = 1 << SPEAKER, 2 << SPEAKER  # speakers
NOWHERE = Position(0, "")


class Run:
    """One channel without history, two speakers, one listener who was there before them."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.log = Log("eve", CHANNEL, self.ledger)
        self.log.subscribed(NOWHERE, recovered=False, asked=False)
        self.log.attend()

    def say(self, *numbers: int) -> None:
        """Publish these, and get them acknowledged."""
        for number in numbers:
            self.ledger.publishing(CHANNEL, number)
            self.ledger.acknowledged(CHANNEL, number)

    def hear(self, *numbers: int) -> None:
        """Let the listener hear these."""
        for number in numbers:
            self.log.publication(0, number)

    def verdict(self) -> Verdict:
        """Judge, and see that it makes no difference if the judge is another process."""
        here = verify(self.ledger, [self.log], {CHANNEL: NOWHERE}, unkept={CHANNEL})
        ledger = Ledger()
        text = msgspec.json.encode((self.ledger.dump(), self.log.dump()), enc_hook=plain)
        pages, dump = msgspec.json.decode(text, type=tuple[dict[str, PageDump], LogDump], dec_hook=revived)
        ledger.absorb(pages)
        log = Log.restored(dump, ledger)
        assert here == verify(ledger, [log], {CHANNEL: NOWHERE}, unkept={CHANNEL})
        return here


def test_speakers_number_apart() -> None:
    """Each speaker's numbers are in order by themselves, however they mix."""
    run = Run()
    run.say(ANN + 1, BOB + 1, ANN + 2, BOB + 2)
    run.hear(BOB + 1, ANN + 1, ANN + 2, BOB + 2)
    verdict = run.verdict()
    assert verdict.clean, verdict
    assert (4, 4, 0) == (verdict.acknowledged, verdict.deliveries, verdict.lost)


def test_a_hole_in_what_one_speaker_said_is_a_loss() -> None:
    """What was acknowledged and passed over is lost, and named with its speaker."""
    run = Run()
    run.say(ANN + 1, ANN + 2, ANN + 3, ANN + 4, BOB + 1)
    run.hear(ANN + 1, BOB + 1, ANN + 4)
    verdict = run.verdict()
    assert (2, 1, 1) == (verdict.lost, verdict.count("silent gap"), verdict.silent)
    assert "offset 2-3" in str(verdict)
    assert "speaker 1" in str(verdict)


def test_the_first_and_the_last_count_too() -> None:
    """Who listened from the beginning misses the first, and at the end the newest; a speaker never heard, all."""
    run = Run()
    run.say(ANN + 1, ANN + 2, ANN + 3, BOB + 1, BOB + 2)
    run.hear(ANN + 2)
    verdict = run.verdict()
    assert (4, 1, 2) == (verdict.lost, verdict.count("silent gap"), verdict.count("silent tail"))


def test_what_was_said_while_nobody_listened_is_not_missing() -> None:
    """A return without history begins anew; what follows it has to be whole again."""
    run = Run()
    run.say(ANN + 1, ANN + 2, ANN + 3, ANN + 4, ANN + 5, ANN + 6, BOB + 1)
    run.hear(ANN + 1)
    run.log.away()
    run.log.subscribed(NOWHERE, recovered=False, asked=False)
    run.hear(ANN + 4)
    assert (2, 0, 1) == (run.verdict().lost, run.verdict().skipped, run.verdict().count("silent tail"))
    run.hear(ANN + 6)
    assert (1, 1, 1) == (run.verdict().lost, run.verdict().skipped, run.verdict().count("silent gap"))


def test_a_subscription_on_which_nothing_comes_is_found_out() -> None:
    """After a return it has to be whole from the moment of its reply; what was on its way then may still come."""
    run = Run()
    run.say(ANN + 1, ANN + 2)
    run.hear(ANN + 1)
    run.log.away()
    run.ledger.publishing(CHANNEL, ANN + 3)
    run.log.subscribed(NOWHERE, recovered=False, asked=False)
    assert run.verdict().clean
    run.say(ANN + 4, BOB + 1)
    assert (2, 2) == (run.verdict().lost, run.verdict().count("silent tail"))
    run.hear(ANN + 3)
    assert 2 == run.verdict().lost
    run.hear(ANN + 4, BOB + 1)
    assert run.verdict().clean


def test_a_subscription_that_begins_late_to_hear_has_a_hole() -> None:
    """Whoever speaks first after its reply is to be heard first."""
    run = Run()
    run.log.away()
    run.log.subscribed(NOWHERE, recovered=False, asked=False)
    run.say(ANN + 1, ANN + 2, ANN + 3)
    run.hear(ANN + 3)
    assert (2, 1) == (run.verdict().lost, run.verdict().count("silent gap"))


def test_of_speakers_in_another_process_nobody_knows_since_when() -> None:
    """A subscription of later is whole from the first that it hears of them."""
    here, run = Ledger(), Run()
    log = Log("eve", CHANNEL, here)
    log.subscribed(NOWHERE, recovered=False, asked=False)
    run.say(ANN + 1, ANN + 2, ANN + 3, ANN + 4)
    log.publication(0, ANN + 2)
    log.publication(0, ANN + 4)
    judge = Ledger()
    judge.absorb(run.ledger.dump())
    judge.absorb(here.dump())
    verdict = verify(judge, [Log.restored(log.dump(), judge)], {CHANNEL: NOWHERE}, unkept={CHANNEL})
    assert (1, 1) == (verdict.lost, verdict.count("silent gap"))


def test_who_is_away_at_the_end_misses_no_tail() -> None:
    """The newest are asked only of those who listen."""
    run = Run()
    run.say(ANN + 1, ANN + 2)
    run.hear(ANN + 1)
    run.log.away()
    assert run.verdict().lost == 0


def test_what_was_refused_or_is_in_doubt_is_not_lost() -> None:
    """Only what was acknowledged was promised."""
    run = Run()
    run.say(ANN + 1, ANN + 2, ANN + 3, ANN + 4)
    run.ledger.refused(CHANNEL, ANN + 2)
    run.ledger.doubtful(CHANNEL, ANN + 3)
    run.hear(ANN + 1, ANN + 4)
    verdict = run.verdict()
    assert verdict.clean, verdict
    assert (2, 1, 1, 2) == (verdict.acknowledged, verdict.refused, verdict.doubtful, verdict.skipped)


def test_late_is_out_of_order_but_not_lost() -> None:
    """Whatever fills a hole takes it out again, from its middle too, and after a return."""
    run = Run()
    run.say(*(ANN + it for it in range(1, 7)))
    run.hear(ANN + 1, ANN + 5, ANN + 3, ANN + 4, ANN + 2, ANN + 4)
    run.log.away()
    run.log.subscribed(NOWHERE, recovered=False, asked=False)
    run.hear(ANN + 3, ANN + 6)
    verdict = run.verdict()
    assert (5, 0) == (verdict.count("inversion"), verdict.lost)


def test_what_nobody_said_is_a_ghost() -> None:
    """A number beyond the newest that was published."""
    run = Run()
    run.say(ANN + 1)
    run.hear(ANN + 1, ANN + 2)
    assert run.verdict().count("ghost") == 1


def test_without_being_asked_such_a_channel_promises_order_alone() -> None:
    """The holes are counted as skipped, as they are where faults are made on purpose."""
    run = Run()
    run.say(ANN + 1, ANN + 2)
    run.hear(ANN + 2)
    verdict = verify(run.ledger, [run.log], {CHANNEL: NOWHERE})
    assert verdict.clean
    assert (1, 0) == (verdict.skipped, verdict.lost)


def test_endings_are_what_is_known_last() -> None:
    """An answer after a doubt counts, a doubt after an answer takes it back, and who never published is nobody."""
    endings = Ledger().page(CHANNEL).endings
    endings.set(ANN + 1, "doubtful")
    endings.set(ANN + 1, "acknowledged")
    endings.set(ANN + 1, "acknowledged")
    endings.set(ANN + 2, "refused")
    endings.set(ANN + 2, "refused")
    assert (1, 1) == (endings.count("acknowledged"), endings.count("refused"))
    assert ["acknowledged", "refused", None, None] == [endings.get(it) for it in (ANN + 1, ANN + 2, ANN + 3, ANN)]
    endings.set(ANN + 1, "doubtful")
    assert (0, 1) == (endings.count("acknowledged"), endings.count("doubtful"))
    assert endings.acknowledged_in(BOB + 1, BOB + 5) == 0


def test_only_what_dumps_hold_is_borne() -> None:
    """Anything else is a slip of whoever added it."""
    assert Position(3, "e") == revived(Position, plain(Position(3, "e")))
    with pytest.raises(TypeError, match="nothing that a dump holds"):
        plain(object())
    with pytest.raises(TypeError, match="nothing that a dump holds"):
        revived(complex, 3)
    with pytest.raises(ValueError, match="Expected"):
        revived(Position, ["3", "e"])


def test_processes_that_saw_two_histories_are_told_on() -> None:
    """Logs with history keep their offences, gaps and places on the way, and ledgers are compared."""
    ledgers, logs = [Ledger(), Ledger()], []
    for ledger, content in zip(ledgers, (ANN + 1, BOB + 1), strict=True):
        ledger.publishing(CHANNEL, content)
        ledger.acknowledged(CHANNEL, content, Position(1, "e"))
        log = Log(f"of {content}", CHANNEL, ledger)
        log.subscribed(NOWHERE, recovered=False, asked=False)
        log.publication(1, content, "e")
        log.publication(4, content, "e")
        log.publication(3, content, "e")
        log.told("unsubscribed")
        log.subscribed(Position(3, "e"), recovered=True, asked=True, publications=[(4, content)])
        logs.append(log)
    judge = Ledger()
    for ledger in ledgers:
        judge.absorb(ledger.dump())
    verdict = verify(judge, [Log.restored(it.dump(), judge) for it in logs], {CHANNEL: Position(4, "e")})
    assert (3, 2, 2) == (verdict.count("two histories"), verdict.count("silent gap"), verdict.count("inversion"))
    assert ({"unsubscribed": 2}, 2, 2) == (verdict.tells, verdict.repeats, verdict.lost)
    assert 0 == verdict.twice, "a return excuses what comes again"


def test_what_a_subscription_gets_twice_is_counted_apart() -> None:
    """With history by its offset, without it by its number."""
    run = Run()
    run.say(ANN + 1)
    run.hear(ANN + 1, ANN + 1)
    assert (1, 1, 1) == ((it := run.verdict()).repeats, it.twice, it.count("inversion"))
    ledger = Ledger()
    log = Log("eve", CHANNEL, ledger)
    log.subscribed(Position(7, "e"), recovered=False, asked=False)
    log.publication(7, 1)  # of before the reply: it comes once
    log.publication(8, 2)
    log.publication(8, 2)
    assert (2, 1) == (log.repeats, log.twice)
    log.away()
    log.subscribed(Position(9, "e"), recovered=True, asked=True, publications=[(9, 3)])
    log.publication(8, 2)
    log.publication(9, 3)
    assert (4, 2) == (log.repeats, log.twice)
