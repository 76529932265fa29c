"""Any conversation: nothing is raised, each command is answered once or the connection ends, nothing is left behind."""

from __future__ import annotations

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.disconnects import UNSUBSCRIBED_BY_SERVER
from gateway.errors import BAD_REQUEST, DecodeError, EngineFault
from gateway.protocol import effects as e
from gateway.protocol import messages as m
from gateway.protocol.policy import Policy
from gateway.protocol.session import Phase, Session
from gateway.types import Channel, ConnectionId
from tests.property.conversations import (
    CHANNELS,
    COMMANDS,
    CONNECTS,
    FAULTS,
    ODD,
    OFTEN,
    POLICIES,
    SUBSCRIBES,
    Slow,
    success,
)
from tests.support.changed import changed


def _channel(effect: Slow) -> Channel | None:
    """Return the channel whose commands wait for this effect."""
    if isinstance(effect, e.Join):
        return effect.channel
    return getattr(effect.command, "channel", None) if isinstance(effect, e.Verify) else None


class Conversation(RuleBasedStateMachine):
    """A shell that keeps the promises of `Session`, and clients that do what they like, one after the other."""

    @initialize(policy=POLICIES)
    def begin(self, policy: Policy) -> None:
        """Accept a connection."""
        self.now = 1000.0
        self.ref = 0
        self.unanswered: set[int] = set()
        self.pending: list[Slow] = []
        self.joined: set[Channel] = set()
        self.phases = [Phase.CONNECTING]
        self.session = Session(
            client=ConnectionId("me"), policy=policy, node="n", version="v", now=self.now, jitter=0.5
        )

    def perform(self, effects: list[e.Effect]) -> None:
        """Do what the session wants, and look at whether it may want that."""
        for index, effect in enumerate(effects):
            match effect:
                case e.Send(message=m.Reply(ref=ref, result=result)):
                    assert ref in self.unanswered, "answered twice, or without having been asked"
                    self.unanswered.remove(ref)
                    opening = self.session.phase is Phase.OPEN and self.phases[-1] is not Phase.OPEN
                    assert opening == isinstance(result, m.ConnectResult)
                case e.Send() | e.Heartbeat():
                    assert self.session.phase is Phase.OPEN
                case e.Close():
                    assert index == len(effects) - 1, "something follows the end"
                    assert self.session.phase is Phase.CLOSED
                case e.Live(channel=channel):
                    assert channel in self.joined
                case e.Leave(channel=channel):
                    self.joined.remove(channel)
                case _:
                    self._perform_later(effect, last=index == len(effects) - 1)
        if self.session.phase is not self.phases[-1]:
            self.phases.append(self.session.phase)

    def _perform_later(self, effect: Slow | e.Denied, *, last: bool) -> None:
        if isinstance(effect, e.Denied):
            assert not last, "written down, and the client is told nothing"
        else:
            self.pending.append(effect)

    def say(self, command: m.Command) -> None:
        """Hand a command over, as soon as the shell may."""
        channel = getattr(command, "channel", None)
        waits = self.session.phase is Phase.VERIFYING or channel in {_channel(it) for it in self.pending}
        if isinstance(command, m.Pong | m.Send):
            if isinstance(command, m.Pong) or not waits:
                self.perform(self.session.receive(command, self.now))
        elif channel is None or not waits:
            self.ref += 1
            self.unanswered.add(self.ref)
            self.perform(self.session.receive(changed(command, ref=self.ref), self.now))

    def finish(self, data: st.DataObject, effect: Slow, *, well: bool) -> None:
        """Hand an outcome back."""
        outcome = data.draw(success(effect, self.now) if well else FAULTS)
        if isinstance(effect, e.Join) and isinstance(outcome, e.Joined):
            self.joined.add(effect.channel)
        self.perform(self.session.resolve(effect, outcome, self.now))

    # --- before the connection is open, and after its end

    @precondition(lambda self: self.session.phase is Phase.CONNECTING)
    @rule(data=st.data())
    def connect(self, data: st.DataObject) -> None:
        """Connect as one should, with nearly everything going well."""
        self.say(m.Connect(0, token="t"))
        while self.pending:
            self.finish(data, self.pending.pop(), well=data.draw(OFTEN))

    @precondition(lambda self: self.session.phase is Phase.CONNECTING)
    @rule(command=CONNECTS)
    def connect_somehow(self, command: m.Connect) -> None:
        """Connect, perhaps with nothing, or with what leads to nothing."""
        self.say(command)

    @precondition(lambda self: self.session.phase is Phase.CLOSED)
    @rule(policy=POLICIES, command=COMMANDS, data=st.data())
    def come_back(self, policy: Policy, command: m.Command, data: st.DataObject) -> None:
        """Whatever comes after the end is answered with nothing; then the next connection is accepted."""
        assert inf == self.session.deadline
        for effect in self.pending:
            assert self.session.resolve(effect, data.draw(success(effect, self.now)), self.now) == []
        assert self.session.receive(command, self.now) == []
        assert self.session.tick(self.now + 1e6) == []
        assert self.session.phase is Phase.CLOSED
        self.phases_only_go_forward()
        self.begin(policy)

    # --- at any time

    @precondition(lambda self: self.session.phase is not Phase.CLOSED)
    @rule(command=st.sampled_from([ODD, CONNECTS, COMMANDS]).flatmap(lambda it: it), behave=OFTEN)
    def misbehave(self, command: m.Command | DecodeError, behave: bool) -> None:
        """Send what is not in place at this time, or at any, or what is no command at all."""
        if behave:
            return
        if not isinstance(command, DecodeError):
            self.say(command)
            return
        self.ref += 1
        self.unanswered.add(self.ref)
        self.perform(self.session.malformed(DecodeError(BAD_REQUEST, ref=self.ref), self.now))

    @precondition(lambda self: self.pending and self.session.phase is not Phase.CLOSED)
    @rule(data=st.data(), well=OFTEN)
    def resolve(self, data: st.DataObject, well: bool) -> None:
        """Let some slow work come to its end, usually a good one."""
        self.finish(data, self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1))), well=well)

    @precondition(lambda self: self.session.phase is not Phase.CLOSED)
    @rule(seconds=st.sampled_from([0.1, 1.0, 0.0]))
    def time_goes_by(self, seconds: float) -> None:
        """Tick, whether something is due or not."""
        self.now += seconds
        self.perform(self.session.tick(self.now))
        assert self.session.deadline > self.now

    # --- while it is open

    @precondition(lambda self: self.session.phase is Phase.OPEN)
    @rule(command=SUBSCRIBES)
    def subscribe(self, command: m.Subscribe) -> None:
        """Subscribe, or try to."""
        self.say(command)

    @precondition(lambda self: self.session.phase is Phase.OPEN)
    @rule(command=COMMANDS)
    def command(self, command: m.Command) -> None:
        """Ask for something else."""
        self.say(command)

    @precondition(lambda self: self.session.phase is Phase.OPEN and self.session.deadline < inf)
    @rule(alive=OFTEN)
    def time_goes_by_until_something_is_due(self, alive: bool) -> None:
        """Then there is something to do; a client that is alive answers pings."""
        before = self.session.deadline
        self.now = max(self.now, before)
        effects = self.session.tick(self.now)
        assert effects, "nothing was due"
        assert self.session.deadline > before
        self.perform(effects)
        if alive and self.session.pinged:
            self.perform(self.session.receive(m.Pong(), self.now))

    @precondition(lambda self: self.session.phase is Phase.OPEN)
    @rule(channel=CHANNELS, behind=st.booleans())
    def lose_a_subscription(self, channel: Channel, behind: bool) -> None:
        """Fall behind, or be unsubscribed by the server."""
        if behind:
            self.perform(self.session.insufficient(channel, None, self.now))
        else:
            self.perform(self.session.unsubscribe(channel, UNSUBSCRIBED_BY_SERVER))

    @precondition(lambda self: len(self.session.subscriptions) > 2)
    @rule()
    def lose_the_connection(self) -> None:
        """The client goes without a word."""
        self.session.close()
        self.perform([])

    # --- what always holds

    @invariant()
    def phases_only_go_forward(self) -> None:
        """As their numbers."""
        values = [it.value for it in self.phases]
        assert values == sorted(set(values))

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Whoever has no answer yet has slow work under way."""
        at_work = {it.command.ref if isinstance(it, e.Verify) else it.ref for it in self.pending}
        assert self.session.phase is Phase.CLOSED or self.unanswered <= at_work

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """What was joined and not left is what stands; what is reserved has work under way; all of it in limits."""
        session = self.session
        if session.phase is not Phase.CLOSED:
            assert self.joined == session.subscriptions.keys()
            assert session.joining.keys() <= {_channel(it) for it in self.pending}
            assert len(session.subscriptions) + len(session.joining) <= session.policy.channel_limit
            assert session.phase is Phase.OPEN or session.deadline < inf

    def teardown(self) -> None:
        """Let all slow work end: then everybody has an answer."""
        for effect in getattr(self, "pending", ()):
            self.perform(self.session.resolve(effect, EngineFault("down"), self.now))
        assert not hasattr(self, "session") or self.session.phase is Phase.CLOSED or not self.unanswered


Conversation.TestCase.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
TestConversation = Conversation.TestCase
