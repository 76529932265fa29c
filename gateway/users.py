"""The limit of a user's connections over all nodes: noticed once they are open, ended by one rule everywhere."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from gateway.contracts.broker import Done
from gateway.contracts.clock import Clock
from gateway.contracts.engine import Engine
from gateway.disconnects import CONNECTION_LIMIT
from gateway.errors import EngineFault
from gateway.protocol.messages import DisconnectClients, Survey
from gateway.protocol.values import PresenceStats
from gateway.timers import TICK, TimerWheel
from gateway.types import Channel, ClientInfo, ConnectionId, NodeId, UserId

CONNECTIONS_OF: Final = "connections_of"  # the survey: which connections of this user do you hold?
SURVEY_SECONDS: Final = 1.0  # a node that is dead and not yet forgotten is waited for so long
ASK_PAUSE: Final = 0.1  # seconds between two surveys for one user, however many connections it opens
_NAMESPACE: Final = "\x00user:"  # no client may write this character, no operator can define this namespace

Age: TypeAlias = tuple[int, ConnectionId]  # when it came, in microseconds of the wall clock; ties go by the id

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(list[tuple[int, str]]).decode


@dataclass(frozen=True, slots=True)
class UserRules:
    """How many connections a user may have on all nodes together, 0 = any number, and which of them end."""

    limit: int = 0
    closes: Literal["oldest", "newest"] = "oldest"


class Member(Protocol):
    """A connection, as one of its user's."""

    id: ConnectionId
    gone: bool
    opened_at: float

    @property
    def user(self) -> UserId:
        """Whose it is."""


M = TypeVar("M", bound=Member)


def enter(users: dict[UserId, set[M]], member: M) -> None:
    """File a connection under its user."""
    users.setdefault(member.user, set()).add(member)


def leave(users: dict[UserId, set[M]], member: M) -> bool:
    """Take it out again; False: it was not there."""
    found = users.get(member.user, set())
    if member not in found:
        return False
    found.remove(member)
    if not found:
        del users[member.user]
    return True


@dataclass(slots=True)
class _Asking:
    """A survey for one user; `again`: somebody has come since it was sent."""

    again_at: float  # monotonic seconds
    answered: bool = False
    again: bool = False


class UserLimit:
    """Counts by the presence store, decides by a survey, closes by the control bus; never keeps a client waiting.

    The store notices cheaply that there are too many: two calls for a connection, one for its end. Its entries may
    be those of a node that was just killed, so who is really there is asked of the nodes before anybody is closed.
    All nodes judge by age, and each sees a part of the truth: whoever is surplus in a part is surplus in the whole.
    A fault of the engine lets in. The user without a name has no limit.
    """

    def __init__(
        self,
        *,
        rules: UserRules,
        users: Mapping[UserId, Collection[Member]],
        engine: Callable[[], Engine],
        clock: Clock,
        wheel: TimerWheel,
        close: Callable[[DisconnectClients], None],
        expect: Callable[[], Done[None]],
    ) -> None:
        """Take `users` as they are on this node, `close` for connections of this node, `expect` for last calls."""
        self._rules = rules
        self._users = users
        self._engine = engine
        self._close = close
        self._expect = expect
        self._clock = clock
        self._wheel = wheel
        self.timer_tick = 0
        self._started = clock.wall() - clock.monotonic()  # fixed: an age must not depend on when it is asked
        self._asking: dict[UserId, _Asking] = {}  # whose survey is under way, or was just now

    def opened(self, member: Member) -> None:
        """Count a connection in; close the surplus, if there is any, later."""
        presence = self._engine().presence
        if presence is None or not self._limits(member.user):
            return
        channel, who, announce = _entry(member)
        presence.add(channel, who, announce, _whatever)
        presence.stats(channel, partial(self._counted, member.user))  # it comes behind the entry

    def closed(self, member: Member) -> None:
        """Count it out."""
        presence = self._engine().presence
        if presence is not None and self._limits(member.user):
            presence.remove(_channel(member.user), member.id, False, self._expect())

    def present(self) -> Iterable[tuple[Channel, ClientInfo, bool]]:
        """Yield the entries of this node; see `contracts.engine.EngineSink.present`."""
        for user, members in self._users.items():
            if self._limits(user):
                yield from map(_entry, members)

    def surveyed(self, user: bytes) -> bytes:
        """Answer the survey CONNECTIONS_OF: the ages of a user's connections here."""
        members = self._users.get(UserId(user.decode()), ())
        return _encode([(self._came_at(it), it.id) for it in members if not it.gone])

    def due(self, now: float) -> float:
        """Ask again about those of whom more have come; the wheel calls."""
        for user in tuple(self._asking):
            self._go_on(user, now)
        return min((max(it.again_at, now + TICK) for it in self._asking.values()), default=inf)

    def _limits(self, user: UserId) -> bool:
        return self._rules.limit > 0 and user != ""

    def _came_at(self, member: Member) -> int:
        return int((self._started + member.opened_at) * 1_000_000)

    def _counted(self, user: UserId, outcome: PresenceStats | EngineFault) -> None:
        if isinstance(outcome, EngineFault) or outcome.num_clients <= self._rules.limit:
            return
        if user in self._asking:
            self._asking[user].again = True
            self._go_on(user, self._clock.monotonic())
        else:
            self._ask(user)

    def _ask(self, user: UserId) -> None:
        again_at = self._clock.monotonic() + ASK_PAUSE
        self._asking[user] = _Asking(again_at)
        self._wheel.schedule(again_at, self)
        question = Survey(id=uuid.uuid4().hex, op=CONNECTIONS_OF, payload=user.encode())
        self._engine().control.ask(question, SURVEY_SECONDS, partial(self._answered, user))

    def _answered(self, user: UserId, outcome: Mapping[NodeId, bytes] | EngineFault) -> None:
        self._asking[user].answered = True
        if not isinstance(outcome, EngineFault):
            self._end(user, surplus(_ages(outcome.values()), self._rules))
        self._go_on(user, self._clock.monotonic())

    def _go_on(self, user: UserId, now: float) -> None:
        """Ask once more for those who have come since, or forget that we asked; neither too soon."""
        asking = self._asking[user]
        if not asking.answered or now < asking.again_at:
            return
        del self._asking[user]
        if asking.again:
            self._ask(user)

    def _end(self, user: UserId, clients: Sequence[ConnectionId]) -> None:
        """Close those of this node, and have the others closed by one order, however many they are."""
        ours = {it.id for it in self._users.get(user, ())}
        near, far = [it for it in clients if it in ours], [it for it in clients if it not in ours]
        if near:
            self._close(_order(near))
        if far:
            self._engine().control.send(_order(far), _whatever)


def _order(clients: Sequence[ConnectionId]) -> DisconnectClients:
    first, *more = sorted(clients)
    named = ".".join((first, *more))
    return DisconnectClients(
        id=f"connection-limit.{uuid.uuid5(uuid.NAMESPACE_OID, named)}",  # the same from every node that decides so
        client=first,
        clients=tuple(more),
        code=CONNECTION_LIMIT.code,
        reason=CONNECTION_LIMIT.reason,
    )


def surplus(ages: Collection[Age], rules: UserRules) -> list[ConnectionId]:
    """Return the connections that must end so that the limit holds."""
    ranked = sorted(ages, reverse=rules.closes == "oldest")
    return [client for _, client in ranked[rules.limit :]]


def _ages(answers: Iterable[bytes]) -> list[Age]:
    ages: list[Age] = []
    for answer in answers:
        try:
            ages += [(came_at, ConnectionId(client)) for came_at, client in _decode(answer)]
        except msgspec.DecodeError:  # of a node whose release does not know the survey
            continue
    return ages


def _channel(user: UserId) -> Channel:
    return Channel(_NAMESPACE + user)


def _entry(member: Member) -> tuple[Channel, ClientInfo, bool]:
    return _channel(member.user), ClientInfo(member.user, member.id), False


def _whatever(_: EngineFault | None) -> None:
    """Accept any end: the engine counts its faults, and the lease of the node ends what could not be removed."""
