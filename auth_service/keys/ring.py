"""The keys of this service: which one signs now, and which ones are published. All that it knows is in the files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import structlog

from auth_service.audit import Audit
from auth_service.errors import OperatorError
from auth_service.keys.files import Contents, Held, KeyDirectory
from auth_service.keys.key import Algorithm, SigningKey
from auth_service.keys.schedule import FIRST, Times, due, published, removable, signer
from auth_service.settings import AuthSettings

READ_SECONDS = 1.0  # between two looks into the directory
RETRY_SECONDS = 60.0  # between two tries to write into a directory that did not let us

_UNWRITTEN = "keys cannot be rotated in"

log = structlog.get_logger(__name__)


def times_of(settings: AuthSettings) -> Times:
    """Return how long keys live: the longest-lived token, and clocks that differ, outlive the signing."""
    longest = max(settings.access_token_seconds, settings.subscription_token_seconds, settings.ticket_seconds)
    return Times(
        publish_ahead=settings.key_publish_ahead_seconds,
        rotation=settings.key_rotation_seconds,
        outlives=longest + settings.key_leeway_seconds,
    )


class Keyring:
    """The keys in one directory. `open` it before anything else, and keep `run` running. `clock` returns the Unix time.

    Several replicas may share the directory. What goes wrong with it once it is open is logged, counted in `faults`,
    and leaves the keys as they were: a service that runs goes on signing.
    """

    def __init__(
        self, directory: Path, times: Times, *, clock: Callable[[], float], audit: Audit | None = None
    ) -> None:
        self._directory = KeyDirectory(directory, times, clock=clock)
        self._times = times
        self._clock = clock
        self._audit = audit
        self._held: tuple[Held, ...] = ()
        self._faults: frozenset[str] = frozenset()
        self._write_at = 0.0

    def open(self) -> None:
        """Read all keys, and make the first if there is none. Raises OperatorError, also for one broken file."""
        path = self._directory.path
        try:
            contents = self._first_contents()
        except OSError as error:
            raise OperatorError(f"the key directory {path} cannot be read or written: {error.strerror}") from None
        if contents.faults:
            raise OperatorError("; ".join(contents.faults))
        self._held = contents.held
        if self._times.rotation and not self._directory.writable():
            log.warning("keys.read_only", directory=str(path), then="rotation is by hand")
            self._write_at = float("inf")

    @property
    def faults(self) -> int:
        """How many things are wrong with the directory now."""
        return len(self._faults)

    def published(self) -> list[Held]:
        """Return all keys that tokens may be checked with, in the order in which they sign."""
        held = {it.file: it for it in self._held}
        return [held[file] for file in published(list(held), self._clock(), self._times)]

    def signing(self) -> Held:
        """Return the key that signs now, and its file."""
        file = signer([it.file for it in self._held], self._clock())
        return next(it for it in self._held if it.file == file)

    def signer(self) -> SigningKey:
        """Return the key that signs now."""
        return self.signing().key

    def find(self, key_id: str) -> SigningKey | None:
        """Return the published key of this id."""
        return next((it.key for it in self.published() if it.key.key_id == key_id), None)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public halves of all published keys."""
        by_id = {it.key.key_id: it.key.jwk for it in self.published()}  # the same key may be in two files
        return {"keys": list(by_id.values())}

    def age(self) -> float:
        """Return the seconds since the key that signs began to."""
        return max(0.0, self._clock() - self.signing().file.since)

    async def run(self) -> None:
        """Look into the directory every second, until cancelled."""
        while True:
            await asyncio.sleep(READ_SECONDS)
            try:
                await asyncio.to_thread(self.tend)  # a network disk may hang
            except Exception:  # a task root: what nobody foresaw must not end the looking, and the keys still sign
                log.exception("keys.failed")

    def tend(self) -> None:
        """Take what has changed in the directory, make the next key if it is due, remove those that are not needed."""
        faults: set[str] = set()
        try:
            if self._take(self._directory.contents(), faults):
                self._write(faults)
        except OSError as error:
            faults.add(f"the key directory {self._directory.path} cannot be read: {error.strerror}")
        for fault in sorted(faults - self._faults):
            log.error("keys.fault", detail=fault)
        if self._faults and not faults:
            log.info("keys.sound_again", directory=str(self._directory.path))
        self._faults = frozenset(faults)

    def _first_contents(self) -> Contents:
        with suppress(FileNotFoundError):
            contents = self._directory.contents()
            if contents.held or contents.faults:
                return contents
        made = self._directory.make(FIRST, Algorithm.EDDSA)
        contents = self._directory.contents()
        if made:
            self._noted("key_made", contents.held, FIRST)
        return contents

    def _take(self, contents: Contents, faults: set[str]) -> bool:
        faults.update(contents.faults)
        if not contents.held:
            faults.add(f"the key directory {self._directory.path} holds no key any more: the last ones stay in use")
            return False
        self._held = contents.held
        return True

    def _write(self, faults: set[str]) -> None:
        """Do what is due; a directory that does not let us is tried again a minute later."""
        now, files = self._clock(), [it.file for it in self._held]
        since, gone = due(files, now, self._times), removable(files, now, self._times)
        if since is None and not gone:
            return
        if now < self._write_at:
            faults.update(it for it in self._faults if it.startswith(_UNWRITTEN))
            return
        try:
            made = f"{since}.pem" if since is not None and self._rotated(since) else None
            dropped = [it.name for it in gone if self._directory.remove(it.name)]
        except OSError as error:
            self._write_at = now + RETRY_SECONDS
            faults.add(f"{_UNWRITTEN} {self._directory.path}: {error.strerror}")
            return
        for name in dropped:
            self._noted("key_dropped", self._held, name)
        self._take(self._directory.contents(), faults)
        if made is not None:
            self._noted("key_made", self._held, made)

    def _rotated(self, since: int) -> bool:
        algorithm = max(self._held, key=lambda it: it.file).key.algorithm
        return self._directory.make(f"{since}.pem", algorithm)

    def _noted(self, event: Literal["key_made", "key_dropped"], held: tuple[Held, ...], name: str) -> None:
        if self._audit is not None:
            for it in held:
                if it.file.name == name:
                    self._audit.note(event, result="ok", key=it.key.key_id, file=name)
