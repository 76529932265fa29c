"""What a client asks for, on its way to the session: in order, when it may, and never too much in one turn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

from gateway import accounting
from gateway.contracts.transport import Transport
from gateway.errors import DecodeError
from gateway.joining import Joiner
from gateway.protocol.effects import Effect
from gateway.protocol.messages import Connect
from gateway.protocol.session import Phase, Session
from gateway.recipients import Group
from gateway.shell import Shell
from gateway.types import Channel
from gateway.waiting import Heard, Waiting

IN_FLIGHT_HIGH: Final = 256  # engine calls and waiting commands of one connection; above, its socket is not read
IN_FLIGHT_LOW: Final = 128


class Hearer(Joiner):
    """A connection, as its client's commands see it."""

    __slots__ = ("full", "in_flight", "leaving", "reading_held", "session", "shell", "waiting")

    def __init__(self, *, session: Session, group: Group, transport: Transport, shell: Shell) -> None:
        super().__init__(
            client=session.client,
            group=group,
            transport=transport,
            flusher=shell.tools.hub.flusher,
            limit=shell.queue_limit,
        )
        self.session = session
        self.shell = shell
        self.waiting = Waiting()
        self.in_flight = 0  # engine calls
        self.full = False  # too much is under way
        self.reading_held = False
        self.leaving = False  # not read any more, whatever comes

    @property
    def unanswered(self) -> bool:
        """Whether something that the client has asked for is under way."""
        return self.in_flight > 0 or self.waiting.busy

    def read_no_more(self) -> None:
        """Take no more commands: the close is near."""
        self.leaving = True
        self.pace()

    def called(self) -> None:
        """Count an engine call that is under way."""
        self.in_flight += 1
        self.pace()

    def hear(self, heard: Sequence[Heard]) -> None:
        """Take what the client has asked for, as far as this turn has room for it; the rest comes in the next ones."""
        behind = self.waiting.behind
        heard = self.waiting.slice(heard)
        if self.waiting.behind and not behind:
            self.flusher.call_soon(self._go_on)
            self.pace()
        self.take(heard)

    def take(self, heard: Iterable[Heard]) -> None:
        """Hand commands to the session one by one, or queue them behind what they must wait for."""
        for command in heard:
            if self.gone:
                return
            if isinstance(command, DecodeError):
                self.perform(self.session.malformed(command, self.shell.clock.monotonic()))
                continue
            if self.waiting.take(command):
                self.pace()
                continue
            accounting.count_command(self.shell.recorder, command)
            connecting = self.session.phase is Phase.CONNECTING and isinstance(command, Connect)
            if connecting:
                self.waiting.hold_all()
            self.perform(self.session.receive(command, self.shell.clock.monotonic()))
            if connecting:
                self.resume()
                if self.session.phase is Phase.REFUSED:
                    break  # what came in the same frame goes unanswered
        self.book()

    def pace(self) -> None:
        """Stop or resume reading, as what is under way goes up and down."""
        least = IN_FLIGHT_LOW if self.full else IN_FLIGHT_HIGH + 1
        self.full = self.in_flight + self.waiting.count >= least
        hold = self.full or self.leaving or self.waiting.behind
        if hold is not self.reading_held:
            self.reading_held = hold
            self.transport.hold_reading(hold)

    def _go_on(self) -> None:
        """Take what was put off. A root: the loop calls."""
        try:
            self.hear(self.waiting.next_slice())
        except Exception as error:  # noqa: BLE001 - see above
            self.failed(error, "frame")
        self.pace()

    @abstractmethod
    def perform(self, effects: list[Effect]) -> None:
        """Perform effects in order; after a close, none."""

    @abstractmethod
    def resume(self, channel: Channel | None = None) -> None:
        """Slow work has ended, in `channel`: hand over what waited for it."""

    @abstractmethod
    def book(self) -> None:
        """Have the wheel look at the deadlines, which may have changed."""

    @abstractmethod
    def failed(self, error: Exception, root: str) -> None:
        """End the connection after an error of ours."""
