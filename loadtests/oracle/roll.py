"""What one client was told of who joins and leaves a channel, against who was there."""

from __future__ import annotations

from collections.abc import Collection, Iterator


class Roll:
    """The joins and leaves of one channel, as one observer heard them; ids are those of connections.

    `present`: who was there, by the presence that was asked for while joins and leaves were heard already: so a join
    may have come before the answer that counts it, and a leave before the answer that does not.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.present: frozenset[str] = frozenset()
        self.heard = 0
        self._stories: dict[str, list[bool]] = {}  # by id: True a join, False a leave

    def told(self, who: str, joined: bool) -> None:
        """Take a join or a leave."""
        self.heard += 1
        self._stories.setdefault(who, []).append(joined)

    def faults(self, *, joined: Collection[str], present: Collection[str]) -> list[str]:
        """Say what was lost, repeated or turned round; nothing more may be on its way.

        `joined`: who certainly joined while the observer heard; `present`: who is there in the end.
        """
        everybody = sorted({*self._stories, *self.present, *joined, *present})
        return [f"{fault} in {self.channel}: {who}" for who in everybody for fault in self._fault(who, joined, present)]

    def _fault(self, who: str, joined: Collection[str], present: Collection[str]) -> Iterator[str]:
        story = self._stories.get(who, [])
        if story not in ([], [True], [False], [True, False]):
            yield "joins and leaves were repeated or turned round"
            return
        if True not in story and (who in joined or (who in present and who not in self.present)):
            yield "a join was lost"
        if who in present and False in story:
            yield "a leave came of somebody who is there"
        if who not in present and False not in story and (story or who in joined or who in self.present):
            yield "a leave was lost"
