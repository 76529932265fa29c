"""The key directory: reads what is there, makes and removes files. Blocking, and without a decision of its own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from auth_service.keys.key import Algorithm, SigningKey, UnusableKey, generate, read
from auth_service.keys.schedule import KeyFile, Times, is_key, placed

MAX_BYTES = 65536  # a key has some 200; a larger file is something else
_OTHERS = 0o077  # permissions of anyone but the owner

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A file and the key in it."""

    file: KeyFile
    key: SigningKey


@dataclass(frozen=True, slots=True)
class Contents:
    """What a directory holds; each fault is one line that names a file which is no key (any more)."""

    held: tuple[Held, ...] = ()
    faults: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()  # names of files in which no key was ever seen


class KeyDirectory:
    """One directory of PEM files. `clock` returns the Unix time; one thread at a time."""

    def __init__(self, path: Path, times: Times, *, clock: Callable[[], float]) -> None:
        self.path = path
        self._times = times
        self._clock = clock
        self._known: dict[str, tuple[tuple[int, ...], SigningKey]] = {}
        self._open_to_others: set[str] = set()

    def contents(self) -> Contents:
        """Read the directory; only files that changed are opened. Raises OSError if it cannot be listed.

        A file that was a key and is broken now, or cannot be read, stays the key that it was.
        """
        held: dict[str, Held] = {}
        faults: list[str] = []
        names = sorted(it.name for it in self.path.iterdir() if is_key(it.name))
        for name in names:
            try:
                held[name] = self._held(name)
            except FileNotFoundError:
                continue  # removed meanwhile
            except (OSError, UnusableKey) as error:
                why = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
                faults.append(f"the key file {self.path / name} {why}")
                held.update(self._last(name))
        self._known = {name: known for name, known in self._known.items() if name in names}
        return Contents(tuple(held.values()), tuple(faults), tuple(it for it in names if it not in held))

    def make(self, name: str, algorithm: Algorithm) -> bool:
        """Put a new key in a file of this name, whole or not at all; False if the name is taken. Raises OSError.

        Only its owner may read it, and it is on the disk when this returns: tokens will be signed with it.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path / f".{name}.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(generate(algorithm))
                file.flush()
                os.fsync(descriptor)
            now = self._clock()
            os.utime(draft, (now, now))
            try:
                os.link(draft, self.path / name)
            except FileExistsError:
                return False
        finally:
            draft.unlink()
        self._sync()
        return True

    def remove(self, name: str) -> bool:
        """Remove a file; False if it was gone already. Raises OSError."""
        try:
            (self.path / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def writable(self) -> bool:
        """Whether keys can be made here."""
        return os.access(self.path, os.W_OK | os.X_OK)

    def _held(self, name: str) -> Held:
        path = self.path / name
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            with path.open("rb") as file:
                known = (stamp, read(file.read(MAX_BYTES)))
            self._known[name] = known
            self._warn(path, status.st_mode)
        return Held(placed(name, status.st_mtime, self._times), known[1])

    def _last(self, name: str) -> dict[str, Held]:
        known = self._known.get(name)
        return {} if known is None else {name: Held(placed(name, known[0][0] / 1e9, self._times), known[1])}

    def _warn(self, path: Path, mode: int) -> None:
        """Mention, once, a key that others can read: secrets are mounted so."""
        if mode & _OTHERS and path.name not in self._open_to_others:
            self._open_to_others.add(path.name)
            log.warning("key.readable_by_others", file=str(path), mode=oct(mode & 0o777))

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
