"""Rotation by hand: the next key in good time, or a new one at once and all others gone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from secrets import token_hex

from auth_service.errors import OperatorError
from auth_service.keys.files import Contents, Held, KeyDirectory
from auth_service.keys.key import Algorithm
from auth_service.keys.schedule import FIRST, Times, signer, soonest
from auth_service.store.database import open_database
from auth_service.telling.closures import order

NOTICE_SECONDS = 2  # by then every service on the directory has published a key that is put there
BARRED_SECONDS = 86400  # how long a dropped key is refused by name; gateways use the keys of a silent issuer an hour


@dataclass(frozen=True, slots=True)
class Replacement:
    """What an emergency changes."""

    made: Held
    dropped: tuple[Held, ...]
    unread: tuple[str, ...]  # names of broken files, dropped too; which keys were in them is not known


def read(directory: KeyDirectory, *, sound: bool = True) -> Contents:
    """Return what is in the directory, nothing if it is not there. Raises OperatorError, if `sound` for faults too."""
    try:
        contents = directory.contents()
    except FileNotFoundError:
        return Contents()
    except OSError as error:
        raise OperatorError(f"the key directory {directory.path} cannot be read: {error.strerror}") from None
    if sound and contents.faults:
        raise OperatorError("; ".join(contents.faults))
    return contents


def add_next(directory: KeyDirectory, times: Times, now: float, algorithm: Algorithm | None) -> Held:
    """Make the key that takes over once everybody has had the time to learn it; in an empty directory, the first.

    Without an algorithm it has that of the newest key. Raises OperatorError, also if one waits for its time already.
    """
    held = read(directory).held
    if not held:
        return _made(directory, FIRST, algorithm or Algorithm.EDDSA)
    files = [it.file for it in held]
    newest = max(held, key=lambda it: it.file)
    if newest.file != signer(files, now):
        raise OperatorError(
            f"{directory.path / newest.file.name} is the next key already, and signs in "
            f"{newest.file.since - now:.0f} s; --now replaces all keys at once"
        )
    return _made(directory, f"{soonest(files, now, times)}.pem", algorithm or newest.key.algorithm)


def replace_all(directory: KeyDirectory, now: float, algorithm: Algorithm | None) -> Replacement:
    """Make a key that signs in two seconds. The others are still there: once it signs, `bar` and `remove` them.

    This order leaves services, whenever they look, with a key that signs and that all of them have published.
    Raises OperatorError.
    """
    contents = read(directory, sound=False)
    newest = max(contents.held, key=lambda it: it.file, default=None)
    chosen = algorithm or (newest.key.algorithm if newest else Algorithm.EDDSA)
    made = _made(directory, f"{math.ceil(now) + NOTICE_SECONDS}-{token_hex(4)}.pem", chosen)
    return Replacement(made, contents.held, contents.unread)


async def bar(database_url: str, key_ids: list[str], now: float) -> None:
    """Order the gateway to refuse these keys; any service on this database delivers it.

    Raises SQLAlchemyError and OperatorError, also for a database that no service can have used: a new one would be
    found where the wrong one is named, and nobody would deliver from it.
    """
    if not key_ids:
        return
    async with open_database(database_url, migrate=False) as transactions, transactions.begin() as session:
        session.add_all([order("kid", it, until=now + BARRED_SECONDS, now=now) for it in key_ids])


def remove(directory: KeyDirectory, replaced: Replacement) -> None:
    """Remove the files of all keys that were replaced. Raises OperatorError."""
    for name in (*(it.file.name for it in replaced.dropped), *replaced.unread):
        try:
            directory.remove(name)
        except OSError as error:
            raise OperatorError(f"{directory.path / name} cannot be removed: {error.strerror}") from None


def _made(directory: KeyDirectory, name: str, algorithm: Algorithm) -> Held:
    try:
        directory.make(name, algorithm)
    except OSError as error:
        raise OperatorError(f"no key can be made in {directory.path}: {error.strerror}") from None
    return next(it for it in read(directory, sound=False).held if it.file.name == name)
