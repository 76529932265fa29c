"""One socket to Redis: packs commands, parses replies, calls back in order.

Callbacks instead of futures: one awaiting task per command costs a factor of 6 to 10.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import structlog
from hiredis import ProtocolError, PushNotification, Reader

from gateway.contracts.recorder import Recorder
from gateway.engines.redis.packing import Args, pack
from gateway.errors import EngineFault

Answered: TypeAlias = Callable[[Any], None]  # gets the reply as hiredis parsed it, or an EngineFault
Pushed: TypeAlias = Callable[[list[Any]], None]

WRITE_LIMIT: Final = 8 * 1024 * 1024  # what may wait for a server that does not read; more is refused
GIVE_UP: Final = 3  # so many command timeouts without any reply, and the socket is taken for dead
# A script is gone, or the server has become a replica: only the on-connect steps put that right.
_FATAL: Final = ("NOSCRIPT", "READONLY")
_KINDS: Final = {
    "OOM": "oom",
    **dict.fromkeys(("READONLY", "MISCONF", "NOREPLICAS"), "readonly"),
    **dict.fromkeys(("LOADING", "BUSY", "MASTERDOWN"), "busy"),
    **dict.fromkeys(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"), "moved"),
}
# Not ASK and TRYAGAIN: while a slot is being handed over the map still holds.
_ASTRAY: Final = ("MOVED", "CLUSTERDOWN")
_MORE: Final = object()
_PUSH: Final = PushNotification

log = structlog.get_logger(__name__)


def _late(_reply: object) -> None:
    """Take the reply of a command that was given up: its place in the queue must be kept."""


class Wire:
    """A FIFO of commands over one connection; `clock` returns monotonic seconds, `timeout` is per command.

    `pushed` gets each out-of-band push. `lost` is called once, with the reason, before the commands still unanswered
    get their EngineFault("lost"). `astray` is called when a server of a cluster says that a slot is not its own.
    `untold` takes the error reply to a `tell` and says whether that settles it; otherwise the connection is dropped.

    To the event loop it is what asyncio.Protocol says; it is not derived from that, see WebSocketTransport.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        timeout: float,
        recorder: Recorder,
        pushed: Pushed,
        lost: Callable[[str], None],
    ) -> None:
        self.congested = False
        self.astray: Callable[[], None] = lambda: None
        self.untold: Callable[[EngineFault], bool] = lambda _fault: False
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._clock = clock
        self._timeout = timeout
        self._recorder = recorder
        self._pushed = pushed
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(protocolError=ProtocolError, replyError=self._refused, notEnoughData=_MORE)
        self._out: list[bytes] = []
        self._waiting: deque[Answered] = deque()
        self._sent = 0  # commands that expect a reply, ever
        self._flown = 0  # of these, how many were written
        self._answered = 0
        self._given_up = 0  # all commands up to this one were answered or given up
        self._flights: deque[tuple[int, float]] = deque()  # (sent so far, when), one per write
        self._silent_since: float | None = None  # when the oldest command given up was sent
        self._reason = ""
        self._turned_away: EngineFault | None = None  # what the server said instead of listening to us

    @property
    def silent(self) -> bool:
        """Whether a command was given up and nothing has been answered since."""
        return self._silent_since is not None

    def call(self, args: Args, done: Answered) -> None:
        """Send a command with the other commands of this turn; `done` gets its reply."""
        if not self._out:
            self._loop.call_soon(self._flush)
        pack(args, self._out)
        self._waiting.append(done)
        self._sent += 1

    def tell(self, args: Args) -> None:
        """Send a command that is answered by pushes (SUBSCRIBE and its kin)."""
        if not self._out:
            self._loop.call_soon(self._flush)
        pack(args, self._out)

    async def ask(self, *args: str | bytes | int) -> Any:
        """Send a command and wait for its reply. Raises EngineFault. Cancelling does not unsend it."""
        self.must_stand()
        answer: asyncio.Future[Any] = self._loop.create_future()
        self.call(args, lambda reply: None if answer.done() else answer.set_result(reply))
        reply = await answer
        if isinstance(reply, EngineFault):
            raise reply
        return reply

    def must_stand(self) -> None:
        """Raise EngineFault if the connection has ended: nobody would be told of what is sent now."""
        if self.gone.done():
            raise self._turned_away or EngineFault("lost", self._reason)

    def sweep(self, now: float) -> None:
        """Give up what is overdue; drop a connection that has not answered anything for too long."""
        upto = 0
        while self._flights and now - self._flights[0][1] >= self._timeout:
            upto, sent_at = self._flights.popleft()
            if self._silent_since is None:
                self._silent_since = sent_at
        if upto > self._given_up:
            self._give_up(upto)
        if self._silent_since is not None and now - self._silent_since >= GIVE_UP * self._timeout:
            self.abort(f"no answer for {now - self._silent_since:.0f} s")

    def abort(self, reason: str) -> None:
        """Drop the connection now; `lost` follows on a later turn."""
        if not self._reason:
            self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Drop the connection if there is one, and wait until everybody has been told."""
        if self._transport is not None:
            self.abort("closing")
            await asyncio.shield(self.gone)

    def forget(self) -> None:
        """Let go of a connection that nobody uses yet, without waiting for its end."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # --- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        stream = cast("asyncio.Transport", transport)  # uvloop's are streams without being asyncio.Transport
        self._transport = stream
        stream.set_write_buffer_limits(high=WRITE_LIMIT)

    def pause_writing(self) -> None:
        """Refuse commands until the server reads again."""
        self.congested = True

    def resume_writing(self) -> None:
        """Take commands again."""
        self.congested = False

    def data_received(self, data: bytes) -> None:
        """Parse what is complete and hand it out; what a callback raises is logged and harms nobody else."""
        gets, waiting, answered = self._reader.gets, self._waiting, 0
        receive: Answered
        try:
            self._reader.feed(data)
            while (reply := gets()) is not _MORE:
                if type(reply) is _PUSH:
                    receive = self._pushed
                elif waiting:
                    receive = waiting.popleft()
                    answered += 1
                else:
                    receive = self._unasked
                try:
                    receive(reply)
                except Exception:  # the root of relayed publications and command callbacks
                    log.exception("redis.callback_failed")
        except ProtocolError as error:
            self.abort(f"not Redis: {error}")
        if answered:
            self._land(answered)

    def eof_received(self) -> None:
        """Let the loop close: the server said all it had to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, then everybody who waits."""
        reason = self._reason or (str(exc) if exc else "closed by the server")
        self._reason = reason
        try:
            self._lost(reason)
        except Exception:  # whoever waits for our end, to dial again or to close, must hear of it
            log.exception("redis.callback_failed")
        waiting = list(self._waiting)[max(0, self._given_up - self._answered) :]
        self._waiting.clear()
        self._fail(waiting, self._turned_away or EngineFault("lost", reason))
        if not self.gone.done():
            self.gone.set_result(None)

    # --- inside

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(b"".join(out))
        if self._sent > self._flown:
            self._flown = self._sent
            self._flights.append((self._sent, self._clock()))

    def _land(self, answered: int) -> None:
        """Book answered commands; one measurement per write that was answered whole."""
        self._answered += answered
        self._silent_since = None
        flights = self._flights
        if flights and flights[0][0] <= self._answered:
            now = self._clock()
            while flights and flights[0][0] <= self._answered:
                self._recorder.observe("redis_command", now - flights.popleft()[1])

    def _give_up(self, upto: int) -> None:
        """Answer for the server up to this command; its own answers are dropped when they come."""
        waiting = self._waiting
        old = max(0, self._given_up - self._answered)
        overdue = [waiting.popleft() for _ in range(upto - self._answered)]
        waiting.extendleft([_late] * len(overdue))
        self._given_up = upto
        self._fail(overdue[old:], EngineFault("timeout", f"no answer within {self._timeout:g} s"))

    def _fail(self, waiting: list[Answered], fault: EngineFault) -> None:
        if not waiting:
            return
        self._recorder.count("redis_errors", fault.kind, len(waiting))
        for done in waiting:
            try:
                done(fault)
            except Exception:  # the same root as in data_received
                log.exception("redis.callback_failed")

    def _refused(self, text: str) -> EngineFault:
        """Make the value that stands for an error reply."""
        # Servers echo the arguments of a command that they do not know: our password, if that is HELLO.
        word, _, rest = text.partition(", with args beginning with")[0].partition(" ")
        fault = EngineFault(_KINDS.get(word, "refused"), f"{word} {rest}")
        self._recorder.count("redis_errors", fault.kind)
        if word in _FATAL:
            self.abort(text)
        elif word in _ASTRAY:
            self.astray()
        return fault

    def _unasked(self, reply: object) -> None:
        """Take an error reply to a `tell` (NOPERM, say), or to our coming (maxclients): else nothing comes unasked."""
        if isinstance(reply, EngineFault) and not self._sent:
            self._turned_away = reply
        if not (isinstance(reply, EngineFault) and self.untold(reply)):
            self.abort(str(reply))
