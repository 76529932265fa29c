from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from gateway.engines.redis.link import Link
from gateway.engines.redis.packing import Args
from gateway.engines.redis.subscriptions import BATCH, IDLE, Subscriptions
from gateway.errors import EngineFault
from gateway.types import Channel
from tests.support.clock import ManualClock

TIMEOUT = 5.0
BUSY = EngineFault("busy", "BUSY Valkey is busy running a script.")


class ScriptedLink:
    """A link whose server does what the test says."""

    def __init__(self) -> None:
        self.up = True
        self.fault = "redis: not there"
        self.told: list[Args] = []
        self.pushed: Callable[[list[Any]], None]
        self.came_up: Callable[[], None]
        self.went_down: Callable[[str], None]
        self.untold: Callable[[EngineFault], bool]

    def tell(self, args: Args) -> None:
        """Keep it."""
        if self.up:
            self.told.append(args)

    def acknowledge(self, *channels: str, verb: bytes = b"subscribe") -> None:
        """Push what Redis pushes for each channel."""
        for channel in channels:
            self.pushed([verb, channel.encode(), 1])

    def lose(self) -> None:
        """Go down."""
        self.up = False
        self.went_down("cut")

    def find(self) -> None:
        """Come back."""
        self.up = True
        self.told.clear()
        self.came_up()


class Ears:
    """Notes in one list what a listener is told."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def arrived(self, channel: Channel, payload: bytes) -> None:
        """Note a message."""
        self.log.append((channel, payload))

    def suspect(self, channels: Iterable[Channel], why: str) -> None:
        """Note a loss."""
        self.log.append(("suspect", list(channels), why))


class Table:
    """The table under test and all around it."""

    def __init__(self, clock: ManualClock, *, sharded: bool = False) -> None:
        self.clock = clock
        self.verbs = (b"smessage", b"ssubscribe") if sharded else (b"message", b"subscribe")
        self.strayed = 0
        self.link = ScriptedLink()
        self.ears = Ears()
        self.subscriptions = Subscriptions(
            cast("Link", self.link), clock=clock.monotonic, timeout=TIMEOUT, sharded=sharded
        )
        self.subscriptions.strayed = self._stray
        self.done: list[tuple[str, Any]] = []

    async def subscribe(self, *names: str) -> None:
        """Take a reference on each, and let the turn end."""
        for name in names:
            self.subscriptions.subscribe(
                name,
                Channel(name.upper()),
                self.ears,
                lambda it, name=name: self.done.append((name, it)),  # type: ignore[misc] # mypy cannot infer a lambda with a default
            )
        await turn()

    async def stands(self, *names: str) -> None:
        """Subscribe and acknowledge."""
        await self.subscribe(*names)
        self.link.acknowledge(*sorted(names), verb=self.verbs[1])
        await turn()
        self.done.clear()
        self.link.told.clear()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and sweep."""
        self.clock.advance(seconds)
        self.subscriptions.sweep(self.clock.monotonic())

    def message(self, name: str, payload: bytes) -> None:
        """Push a message."""
        self.link.pushed([self.verbs[0], name.encode(), payload])

    def _stray(self) -> None:
        self.strayed += 1


async def turn() -> None:
    """Let what is due run."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.fixture(name="table")
async def _table(clock: ManualClock) -> Table:
    return Table(clock)


async def test_the_first_reference_subscribes_and_waits_for_the_answer(table: Table) -> None:
    """Off, asked, on: SUBSCRIBE goes out once, and nobody is answered before the acknowledgement."""
    await table.subscribe("a", "b", "a")
    assert [("SUBSCRIBE", b"a", b"b")] == table.link.told
    assert [] == table.done
    table.link.acknowledge("a")
    assert [("a", None), ("a", None)] == table.done
    await table.subscribe("a")
    assert ("a", None) == table.done[-1]
    assert 1 == len(table.link.told)


async def test_messages_reach_the_listener_under_its_own_name(table: Table) -> None:
    """A message on a channel nobody has an entry for is dropped."""
    await table.stands("a")
    table.message("a", b"1")
    table.message("b", b"2")
    assert [("A", b"1")] == table.ears.log


async def test_an_idle_channel_is_unsubscribed_later(table: Table) -> None:
    """Without references a channel stays for a while; a reference in that time keeps it."""
    await table.stands("a", "b")
    table.subscriptions.unsubscribe("a")
    table.subscriptions.unsubscribe("b")
    table.pass_time(IDLE / 2)
    await table.subscribe("b")
    table.pass_time(IDLE / 2)
    assert [("UNSUBSCRIBE", b"a")] == table.link.told
    assert not table.subscriptions.wanted("a")
    assert table.subscriptions.wanted("b")


async def test_an_old_acknowledgement_is_not_taken_for_a_new_one(table: Table) -> None:
    """A channel still asked for is never unsubscribed: its acknowledgement could answer the next SUBSCRIBE."""
    await table.subscribe("a")
    table.subscriptions.unsubscribe("a")
    table.pass_time(IDLE * 2)
    assert [("SUBSCRIBE", b"a")] == table.link.told
    table.link.acknowledge("a")
    table.pass_time(0)
    assert ("UNSUBSCRIBE", b"a") == table.link.told[-1]
    table.done.clear()
    await table.subscribe("a")
    table.link.acknowledge("a", verb=b"unsubscribe")
    assert [] == table.done
    table.link.acknowledge("a")
    assert [("a", None)] == table.done


async def test_many_channels_go_out_in_batches(table: Table) -> None:
    """Never are more channels than a batch asked for and not acknowledged; each acknowledgement makes room for more."""
    names = [f"c{n}" for n in range(2 * BATCH + 1)]
    await table.subscribe(*names)
    assert [BATCH + 1] == [len(args) for args in table.link.told]
    for expected, batch in ((BATCH + 1, names[:BATCH]), (2, names[BATCH : 2 * BATCH])):
        for name in batch:
            table.link.acknowledge(name)
        await asyncio.sleep(0)
        assert expected == len(table.link.told[-1])
    assert 3 == len(table.link.told)


async def test_a_waiter_times_out_and_leaves_no_reference(table: Table) -> None:
    """At its deadline, not before; a reference taken later has its own deadline."""
    await table.subscribe("a")
    table.pass_time(1.0)
    await table.subscribe("a")
    table.pass_time(TIMEOUT - 1.0)
    assert ["timeout"] == [fault.kind for _, fault in table.done]
    table.link.acknowledge("a")
    assert ("a", None) == table.done[-1]
    table.subscriptions.unsubscribe("a")
    assert not table.subscriptions.wanted("a")


async def test_subscribing_fails_at_once_while_the_link_is_down(table: Table) -> None:
    """No reference is taken, not even of a channel that stood; the answer comes on a later turn."""
    await table.stands("a")
    table.link.lose()
    table.subscriptions.subscribe("a", Channel("A"), table.ears, lambda it: table.done.append(("a", it)))
    assert [] == table.done
    await turn()
    assert ["down"] == [fault.kind for _, fault in table.done]
    table.subscriptions.unsubscribe("a")
    table.link.find()
    table.link.acknowledge("a")
    assert not table.subscriptions.wanted("a")


async def test_after_a_loss_what_stood_is_suspect_before_anything_else(table: Table) -> None:
    """Each channel is told suspect with its acknowledgement, and before the message behind it."""
    await table.stands("a", "b", "c")
    table.link.lose()
    table.link.find()
    assert [("SUBSCRIBE", b"a", b"b", b"c")] == table.link.told
    table.link.acknowledge("a", "b")
    table.message("a", b"1")
    table.link.acknowledge("c")
    await turn()
    assert [("suspect", ["A", "B"], "cut"), ("A", b"1"), ("suspect", ["C"], "cut")] == table.ears.log


async def test_waiters_outlive_a_loss(table: Table) -> None:
    """Who waits goes on waiting until its deadline; a channel that never stood is not suspect."""
    await table.subscribe("a")
    table.link.lose()
    table.link.find()
    assert [] == table.done
    table.link.acknowledge("a")
    await turn()
    assert [("a", None)] == table.done
    assert [] == table.ears.log


async def test_a_second_loss_before_the_acknowledgement(table: Table) -> None:
    """What stood before the first loss is still suspect after the second, once."""
    await table.stands("a")
    for _ in range(2):
        table.link.lose()
        table.link.find()
    table.link.acknowledge("a")
    await turn()
    assert [("suspect", ["A"], "cut")] == table.ears.log
    table.link.acknowledge("a")
    await turn()
    assert 1 == len(table.ears.log)


async def test_idle_channels_are_not_taken_up_again(table: Table) -> None:
    """A loss forgets what nobody listens to."""
    await table.stands("a", "b")
    table.subscriptions.unsubscribe("a")
    table.link.lose()
    table.link.find()
    assert [("SUBSCRIBE", b"b")] == table.link.told
    table.pass_time(IDLE * 2)
    assert 1 == len(table.link.told)


async def test_channels_that_were_left_while_the_link_was_down_are_not_taken_up_again(table: Table) -> None:
    """A server that comes back is not pressed for what nobody wants; who comes meanwhile is answered as ever."""
    await table.stands("a", "b")
    table.link.lose()
    table.subscriptions.unsubscribe("a")
    table.pass_time(IDLE * 2)
    table.link.find()
    assert [("SUBSCRIBE", b"b")] == table.link.told
    await table.subscribe("a")
    table.link.acknowledge("b", "a")
    assert [("a", None)] == table.done


async def test_a_kept_channel_needs_no_link(table: Table) -> None:
    """It is asked for when the link comes, and its listener hears `suspect` the first time too."""
    table.link.lose()
    table.subscriptions.keep("a", Channel("A"), table.ears)
    await turn()
    table.link.find()
    assert [("SUBSCRIBE", b"a")] == table.link.told
    table.link.acknowledge("a")
    await turn()
    assert ["suspect"] == [entry[0] for entry in table.ears.log]


@pytest.mark.parametrize("when", ["back", "moved", "meanwhile"])
async def test_a_kept_channel_is_asked_for_ahead_of_all_others(clock: ManualClock, sharded: Table, when: str) -> None:
    """Thousands take seconds, and the probe of a link must not wait for them: it would be found dead each time."""
    table, kept = sharded, "p.{x}.kept"
    await table.subscribe(*(f"c.{{x}}.{n}" for n in range(3 * BATCH)))
    if when == "meanwhile":
        table.subscriptions.keep(kept, Channel("K"), table.ears)
        await turn()
        table.link.acknowledge("c.{x}.0", verb=b"ssubscribe")
        await turn()
        assert ("SSUBSCRIBE", kept.encode()) == table.link.told[-1]
        return
    table.subscriptions.keep(kept, Channel("K"), table.ears)
    if when == "moved":
        table, given = Table(clock, sharded=True), table.subscriptions.give((b"c.", b"p."))
        table.subscriptions.take(given, "moved")
    else:
        table.link.lose()
        table.link.find()
    await turn()
    assert kept.encode() in table.link.told[0]


async def test_what_was_to_be_asked_when_the_link_went_is_asked_once(table: Table) -> None:
    """A SUBSCRIBE that had not gone out yet is not sent besides the one for everything."""
    table.subscriptions.keep("a", Channel("A"), table.ears)
    table.link.lose()
    table.link.find()
    await turn()
    assert [("SUBSCRIBE", b"a")] == table.link.told


async def test_closing_answers_who_waits(table: Table) -> None:
    """Everybody gets a fault, once."""
    await table.subscribe("a", "a", "b")
    table.subscriptions.close()
    table.subscriptions.close()
    assert ["down", "down", "down"] == [fault.kind for _, fault in table.done]


async def test_too_many_unsubscribes_do_no_harm(table: Table) -> None:
    """Dropping what is not held is nothing."""
    table.subscriptions.unsubscribe("never")
    await table.stands("a")
    table.subscriptions.unsubscribe("a")
    table.subscriptions.unsubscribe("a")
    await table.subscribe("a")
    assert table.subscriptions.wanted("a")


# --- sharded: names under hash tags, and slots that go elsewhere


@pytest.fixture(name="sharded")
async def _sharded(clock: ManualClock) -> Table:
    return Table(clock, sharded=True)


async def test_one_command_holds_one_slot_only(sharded: Table) -> None:
    """Names under different tags go out apart, for subscribing as for unsubscribing."""
    await sharded.subscribe("c.{x}.1", "c.{y}.1", "c.{x}.2")
    assert [("SSUBSCRIBE", b"c.{x}.1", b"c.{x}.2"), ("SSUBSCRIBE", b"c.{y}.1")] == sharded.link.told
    sharded.link.told.clear()
    sharded.link.acknowledge("c.{x}.1", "c.{x}.2", "c.{y}.1", verb=b"ssubscribe")
    for name in ("c.{y}.1", "c.{x}.1", "c.{x}.2"):
        sharded.subscriptions.unsubscribe(name)
    sharded.pass_time(IDLE)
    assert [("SUNSUBSCRIBE", b"c.{x}.1", b"c.{x}.2"), ("SUNSUBSCRIBE", b"c.{y}.1")] == sharded.link.told


async def test_what_the_server_unsubscribes_by_itself_is_astray(sharded: Table) -> None:
    """The owner is told; asked again it is suspect as soon as it stands, before anything else."""
    await sharded.stands("c.{x}.1")
    await sharded.subscribe("c.{y}.1")
    sharded.link.told.clear()
    sharded.link.acknowledge("c.{x}.1", verb=b"sunsubscribe")
    assert (1, []) == (sharded.strayed, sharded.link.told)
    sharded.link.acknowledge("c.{y}.1", verb=b"ssubscribe")
    sharded.subscriptions.ask_again()
    await turn()
    assert [("SSUBSCRIBE", b"c.{x}.1")] == sharded.link.told
    sharded.link.acknowledge("c.{x}.1", verb=b"ssubscribe")
    sharded.message("c.{x}.1", b"m")
    assert [("suspect", ["C.{X}.1"], "the slot has moved"), ("C.{X}.1", b"m")] == sharded.ears.log


async def test_what_we_unsubscribed_is_not_astray(sharded: Table) -> None:
    """The server's answer to our own command says nothing new, even if the name is wanted again by then."""
    await sharded.stands("c.{x}.1")
    sharded.subscriptions.unsubscribe("c.{x}.1")
    sharded.pass_time(IDLE)
    await sharded.subscribe("c.{x}.1")
    sharded.link.acknowledge("c.{x}.1", verb=b"sunsubscribe")
    sharded.link.acknowledge("c.{x}.1", verb=b"ssubscribe")
    assert [("c.{x}.1", None)] == sharded.done
    assert (0, []) == (sharded.strayed, sharded.ears.log)


async def test_an_error_is_about_the_oldest_command(sharded: Table) -> None:
    """Only its names are astray; waiters stay until their deadline, and are answered when it succeeds after all."""
    await sharded.subscribe("c.{x}.1", "c.{y}.1")
    assert sharded.link.untold(EngineFault("moved", "MOVED 1 h:2"))
    sharded.link.acknowledge("c.{y}.1", verb=b"ssubscribe")
    assert ([("c.{y}.1", None)], 1) == (sharded.done, sharded.strayed)
    sharded.link.told.clear()
    sharded.subscriptions.ask_again()
    await turn()
    assert [("SSUBSCRIBE", b"c.{x}.1")] == sharded.link.told
    sharded.link.acknowledge("c.{x}.1", verb=b"ssubscribe")
    assert [("c.{y}.1", None), ("c.{x}.1", None)] == sharded.done


async def test_unsubscribing_may_be_refused_too(sharded: Table) -> None:
    """Then nothing is astray: the server of a slot that has moved has nobody to unsubscribe."""
    await sharded.stands("c.{x}.1")
    sharded.subscriptions.unsubscribe("c.{x}.1")
    sharded.pass_time(IDLE)
    await sharded.subscribe("c.{y}.1")
    assert sharded.link.untold(EngineFault("moved", "MOVED 1 h:2"))
    sharded.link.acknowledge("c.{y}.1", verb=b"ssubscribe")
    assert [("c.{y}.1", None)] == sharded.done
    assert sharded.link.untold(EngineFault("moved", "MOVED 1 h:2")), "an error too many harms nobody"


@pytest.mark.parametrize("sharded", [False, True])
async def test_a_busy_server_is_asked_again_later(clock: ManualClock, sharded: bool) -> None:
    """Once a sweep, whoever else comes meanwhile; in their order, and who waits is answered when it succeeds."""
    table = Table(clock, sharded=sharded)
    verb, taken = ("SSUBSCRIBE", b"ssubscribe") if sharded else ("SUBSCRIBE", b"subscribe")
    names = ["c.{x}.1", "c.{x}.2", "c.{x}.3"]
    await table.subscribe(*names[:2])
    assert table.link.untold(BUSY)
    await table.subscribe(names[2])
    assert [(verb, *(it.encode() for it in names[:2]))] == table.link.told
    table.pass_time(0.1)
    await turn()
    assert (verb, *(it.encode() for it in names)) == table.link.told[-1]
    assert table.link.untold(BUSY)
    await turn()
    assert 2 == len(table.link.told)
    table.pass_time(0.1)
    await turn()
    table.link.acknowledge(*names, verb=taken)
    assert [(it, None) for it in names] == table.done
    assert (0, []) == (table.strayed, table.ears.log)


async def test_a_busy_server_unsubscribes_later(table: Table) -> None:
    """What it would not unsubscribe is told again, unless somebody wants it by then."""
    await table.stands("a", "b")
    table.subscriptions.unsubscribe("a")
    table.subscriptions.unsubscribe("b")
    table.pass_time(IDLE)
    assert [("UNSUBSCRIBE", b"a", b"b")] == table.link.told
    assert table.link.untold(BUSY)
    await table.subscribe("b")
    table.pass_time(0.1)
    await turn()
    assert [("UNSUBSCRIBE", b"a"), ("SUBSCRIBE", b"b")] == table.link.told[1:]
    table.link.acknowledge("a", verb=b"unsubscribe")
    table.link.acknowledge("b")
    table.pass_time(IDLE)
    assert [("b", None)] == table.done
    assert 3 == len(table.link.told)


async def test_a_busy_server_that_is_lost_owes_nothing(table: Table) -> None:
    """A new link is asked at once, for what is wanted then, and has nothing to be unsubscribed."""
    await table.stands("a", "b")
    table.subscriptions.unsubscribe("a")
    table.pass_time(IDLE)
    await table.subscribe("c")
    assert table.link.untold(BUSY)
    assert table.link.untold(BUSY)
    table.link.lose()
    table.link.find()
    assert [("SUBSCRIBE", b"b", b"c")] == table.link.told
    table.pass_time(0.1)
    await turn()
    assert 1 == len(table.link.told)


async def test_other_errors_end_the_link(table: Table, sharded: Table) -> None:
    """A missing permission is not mended by asking elsewhere, and without slots nothing is."""
    await sharded.subscribe("c.{x}.1")
    await table.subscribe("a")
    assert not sharded.link.untold(EngineFault("refused", "NOPERM"))
    assert not table.link.untold(EngineFault("moved", "MOVED 1 h:2"))


async def test_nobody_asks_for_what_nobody_wants_any_more(sharded: Table) -> None:
    """What is astray and idle is let go."""
    await sharded.stands("c.{x}.1")
    sharded.subscriptions.unsubscribe("c.{x}.1")
    sharded.link.acknowledge("c.{x}.1", verb=b"sunsubscribe")
    sharded.subscriptions.ask_again()
    sharded.pass_time(IDLE)
    await turn()
    assert [] == sharded.link.told


async def test_what_is_given_moves_with_all_who_wait(clock: ManualClock, sharded: Table) -> None:
    """What stood is suspect when it stands at its new place, references and waiters come along, idle names do not."""
    target = Table(clock, sharded=True)
    target.ears = sharded.ears
    await sharded.stands("c.{x}.on", "c.{x}.idle", "c.{y}.stays", "p.{x}.other")
    sharded.subscriptions.unsubscribe("c.{x}.idle")
    await sharded.subscribe("c.{x}.asked", "c.{x}.asked")
    target.subscriptions.take(sharded.subscriptions.give((b"c.{x}.",)), "moved")
    await turn()
    assert [("SSUBSCRIBE", b"c.{x}.asked", b"c.{x}.on")] == target.link.told
    sharded.link.acknowledge("c.{x}.asked", verb=b"ssubscribe")  # too late to count
    assert [] == sharded.done
    target.link.acknowledge("c.{x}.asked", "c.{x}.on", verb=b"ssubscribe")
    await turn()
    assert [("c.{x}.asked", None)] * 2 == sharded.done
    assert [("suspect", ["C.{X}.ON"], "moved")] == sharded.ears.log
    assert [False, False, True, True] == [
        sharded.subscriptions.wanted(name) for name in ("c.{x}.on", "c.{x}.idle", "c.{y}.stays", "p.{x}.other")
    ]
    target.subscriptions.unsubscribe("c.{x}.on")
    target.subscriptions.unsubscribe("c.{x}.asked")
    assert target.subscriptions.wanted("c.{x}.asked"), "a reference was lost on the way"


async def test_a_name_that_comes_back_is_asked_for_anew(clock: ManualClock, sharded: Table) -> None:
    """An acknowledgement from before it went away is none for the second time."""
    other = Table(clock, sharded=True)
    await sharded.subscribe("c.{x}.1")
    other.subscriptions.take(sharded.subscriptions.give((b"c.{x}.",)), "away")
    sharded.subscriptions.take(other.subscriptions.give((b"c.{x}.",)), "and back")
    await turn()
    sharded.link.acknowledge("c.{x}.1", verb=b"ssubscribe")
    assert [] == sharded.done
    sharded.link.acknowledge("c.{x}.1", verb=b"ssubscribe")
    assert [("c.{x}.1", None)] == sharded.done


async def test_what_is_given_before_it_was_asked_is_not_asked_here(clock: ManualClock, sharded: Table) -> None:
    """Neither at the end of the turn nor when the link is back."""
    other = Table(clock, sharded=True)
    sharded.link.up = False
    sharded.subscriptions.keep("c.{x}.1", Channel("X"), sharded.ears)
    other.subscriptions.take(sharded.subscriptions.give((b"c.{x}.",)), "moved")
    sharded.link.find()
    await turn()
    assert [] == sharded.link.told
    assert [("SSUBSCRIBE", b"c.{x}.1")] == other.link.told
