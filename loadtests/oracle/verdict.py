"""Compares what was published with what everybody saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.types import Position
from loadtests.oracle.endings import speaker_of
from loadtests.oracle.hearing import said
from loadtests.oracle.ledger import Ledger, Page
from loadtests.oracle.log import Log
from loadtests.oracle.offences import KINDS, SHOWN, Hole, How, Kind, Offence


@dataclass(slots=True)
class Verdict:
    """What became of a run; `clean` when no promise was broken. `str()` names the first offenders."""

    logs: int = 0
    channels: int = 0
    acknowledged: int = 0
    refused: int = 0
    doubtful: int = 0
    deliveries: int = 0
    repeats: int = 0  # on the wire; a client drops them by offset
    twice: int = 0  # of these, those that came twice to one subscription
    forgotten: int = 0  # acknowledged, gone with their epoch; all who listened were told
    skipped: int = 0  # in channels without history
    lost: int = 0  # deliveries that never came, and nobody was told
    absent: int = 0  # logs without a subscription, or of a channel nobody could read, at the end: not to be judged
    tells: Counter[How] = field(default_factory=Counter)
    told: dict[tuple[str, str], int] = field(default_factory=dict)  # (client, channel) -> how often
    offences: list[Offence] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every log is whole or its client was told, and everybody is there to be judged."""
        return not self.offences and not self.absent

    def count(self, *kinds: Kind) -> int:
        """Count the offences of these kinds."""
        return sum(it.kind in kinds for it in self.offences)

    @property
    def silent(self) -> int:
        """Losses that nobody was told of."""
        return self.count("silent gap", "silent tail", "silent epoch", "vanished")

    def __str__(self) -> str:
        """Return the figures, and the first offences of each kind."""
        tells = ", ".join(f"{count} {how}" for how, count in sorted(self.tells.items())) or "none"
        head = (
            f"{'clean' if self.clean else 'BROKEN'}: {self.logs} logs of {self.channels} channels, "
            f"{self.deliveries} deliveries ({self.repeats} repeated on the wire); published {self.acknowledged} "
            f"({self.forgotten} forgotten with notice), {self.refused} refused, {self.doubtful} doubtful; "
            f"told: {tells}; absent at the end: {self.absent}"
        )
        return "\n".join([head, *self._named()])

    def _named(self) -> Iterable[str]:
        for kind in KINDS:
            of_kind = [it for it in self.offences if it.kind == kind]
            yield from (f"  {it}" for it in of_kind[:SHOWN])
            if len(of_kind) > SHOWN:
                yield f"  ... and {len(of_kind) - SHOWN} more of kind {kind!r}"


def verify(
    ledger: Ledger, logs: Iterable[Log], tops: Mapping[str, Position], *, unkept: Collection[str] = ()
) -> Verdict:
    """Judge a run. `tops`: where each channel's stream stands now that all is quiet, as the history says.

    `unkept`: channels without history that must be whole nevertheless for whoever stays subscribed, as long as
    nothing breaks. Elsewhere such a channel promises order alone.
    """
    verdict, by_channel = Verdict(), dict[str, list[Log]]()
    for log in logs:
        by_channel.setdefault(log.channel, []).append(log)
        _judge_log(log, tops.get(log.channel), verdict)
        if log.channel in unkept:
            _judge_hearing(log, ledger.page(log.channel), verdict)
    for channel in ledger.channels:
        _judge_channel(ledger.page(channel), channel, by_channel.get(channel, []), tops.get(channel), verdict)
    verdict.channels = len(by_channel)
    verdict.acknowledged = ledger.count("acknowledged")
    verdict.refused = ledger.count("refused")
    verdict.doubtful = ledger.count("doubtful")
    return verdict


def _judge_log(log: Log, top: Position | None, verdict: Verdict) -> None:
    verdict.logs += 1
    verdict.deliveries += log.deliveries
    verdict.repeats += log.repeats
    verdict.twice += log.twice
    verdict.skipped += log.hearing.skipped
    verdict.tells += log.tells
    if told := log.tells.total():
        verdict.told[log.client, log.channel] = told
    offences = list(log.offences)
    verdict.offences += offences
    verdict.lost += sum(it.last - it.first + 1 for it in offences if it.kind == "silent gap")
    held = log.position
    if not log.listening or held is None or top is None:
        verdict.absent += 1
    elif top.epoch != held.epoch:
        detail = f"while the stream is in {top.epoch!r}"
        verdict.offences.append(
            Offence("silent epoch", log.channel, log.client, held.epoch, held.offset, 0, detail),
        )
    elif held.offset < top.offset:
        verdict.lost += top.offset - held.offset
        verdict.offences.append(
            Offence("silent tail", log.channel, log.client, held.epoch, held.offset + 1, top.offset),
        )


def _judge_hearing(log: Log, page: Page, verdict: Verdict) -> None:
    """Without offsets the numbers must do: what was acknowledged, and not heard by one who listened."""

    def missing(kind: Kind, hole: Hole) -> None:
        if count := page.endings.acknowledged_in(*hole):
            verdict.lost += count
            first, last = (it & 0xFFFFFFFF for it in hole)
            verdict.offences.append(Offence(kind, log.channel, log.client, "", first, last, said(hole)))

    for hole in log.hearing.holes:
        missing("silent gap", hole)
    for speaker, heard in log.hearing.newest.items():
        if heard > page.endings.newest.get(speaker, 0):
            detail = f"heard number {heard}, which was never published"
            verdict.offences.append(Offence("ghost", log.channel, log.client, detail=detail))
    if log.listening:
        for hole in log.hearing.tail(page.endings.newest_acknowledged):
            missing("silent tail", hole)


def _judge_channel(page: Page, channel: str, logs: list[Log], top: Position | None, verdict: Verdict) -> None:
    verdict.offences += page.offences
    for (number, _), (epoch, offset) in page.places.items():
        if page.endings.get(number) in {None, "refused", "unsent"}:  # only now: a refusal may come after the delivery
            detail = f"holds number {number}, which was {page.endings.get(number) or 'never published'}"
            verdict.offences.append(Offence("ghost", channel, "", epoch, offset, 0, detail))
    newest: dict[int, tuple[int, Position]] = {}  # by speaker
    for number, position in page.acknowledged:
        last = newest.get(speaker_of(number))
        if last is not None and number > last[0] and _behind(position, last[1]):
            detail = f"holds number {number}, yet {last[0]} stands at {last[1].offset}"
            verdict.offences.append(
                Offence("disordered stream", channel, "", position.epoch, position.offset, 0, detail),
            )
        newest[speaker_of(number)] = number, position
        if top is not None:
            _judge_place(position, channel, logs, top, verdict)


def _judge_place(place: Position, channel: str, logs: list[Log], top: Position, verdict: Verdict) -> None:
    """An acknowledged publication is in the stream, or was; else everybody who listened then was told."""
    if place.epoch == top.epoch:
        if place.offset > top.offset:
            detail = f"was acknowledged, and the stream ends at {top.offset}"
            verdict.offences.append(Offence("vanished", channel, "", place.epoch, place.offset, 0, detail))
        return
    untold = [log.client for log in logs if place.epoch in log.epochs and not log.tells]
    if untold:
        detail = f"is gone with its epoch; not told: {', '.join(untold[:SHOWN])}"
        verdict.offences.append(Offence("vanished", channel, "", place.epoch, place.offset, 0, detail))
    elif logs:
        verdict.forgotten += 1


def _behind(position: Position, other: Position) -> bool:
    return position.epoch == other.epoch and position.offset < other.offset
