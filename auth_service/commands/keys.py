"""The commands `auth-service keys`: which keys there are, and the next one before its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from auth_service import log
from auth_service.errors import OperatorError
from auth_service.keys.schedule import KeyFile, Times, published, retires_at, signer
from auth_service.settings import AuthSettings, load

if TYPE_CHECKING:  # databases and cryptography take long to load: whoever wants help need not wait for them
    from auth_service.audit import Audit
    from auth_service.keys.files import Held, KeyDirectory
    from auth_service.keys.rotation import Replacement

keys = typer.Typer(help="The keys that tokens are signed with.", no_args_is_help=True)

Folder = Annotated[
    Path | None, typer.Option("--keys", help="Folder of the keys; default AUTH_KEY_DIR, else ./auth_keys.")
]
Database = Annotated[str | None, typer.Option(help="SQLAlchemy URL; default AUTH_DATABASE_URL, else ./auth.db.")]


@keys.command("list", epilog="\b\nExamples:\n  auth-service keys list")
def list_keys(folder: Folder = None) -> None:
    """List the keys: which one signs, which comes next, and which only verify what they signed before."""
    from auth_service.keys.rotation import read  # noqa: PLC0415 - heavy

    log.configure()
    directory, times = _opened(load(key_dir=folder))
    contents = read(directory, sound=False)
    for line in _table(contents.held, times, time.time()):
        typer.echo(line)
    if contents.faults:
        raise OperatorError("; ".join(contents.faults))


@keys.command(epilog="\b\nExamples:\n  auth-service keys rotate --algorithm ES256\n  auth-service keys rotate --now")
def rotate(
    at_once: Annotated[
        bool, typer.Option("--now", help="A key is stolen: the new one signs in 2 s, and all others are dropped.")
    ] = False,
    algorithm: Annotated[
        Literal["EdDSA", "ES256"] | None, typer.Option(help="What the new key signs with; default: as the newest one.")
    ] = None,
    folder: Folder = None,
    database: Database = None,
) -> None:
    """Make the next key; services that run take it from the folder.

    It is published at once and signs once everybody has had the time to learn it, so nobody notices. With --now all
    tokens signed so far are refused within seconds: the gateways are told by the services on the same database.
    """
    from auth_service.audit import Audit  # noqa: PLC0415 - heavy
    from auth_service.keys import rotation  # noqa: PLC0415 - heavy
    from auth_service.keys.key import Algorithm  # noqa: PLC0415 - heavy
    from auth_service.metrics import Metrics  # noqa: PLC0415 - heavy

    log.configure()
    settings = load(key_dir=folder, database_url=database)
    directory, times = _opened(settings)
    audit = Audit(metrics=Metrics(), file=settings.audit_file, clock=time.time)
    chosen = Algorithm(algorithm) if algorithm else None
    if at_once:
        replaced = rotation.replace_all(directory, time.time(), chosen)
        _made(replaced.made, audit)
        time.sleep(max(0.0, replaced.made.file.since - time.time()))
        _drop(directory, replaced, settings, audit)
    else:
        _made(rotation.add_next(directory, times, time.time(), chosen), audit)


def _opened(settings: AuthSettings) -> tuple[KeyDirectory, Times]:
    from auth_service.keys.files import KeyDirectory  # noqa: PLC0415 - heavy
    from auth_service.keys.ring import times_of  # noqa: PLC0415 - heavy

    times = times_of(settings)
    return KeyDirectory(settings.key_dir, times, clock=time.time), times


def _made(made: Held, audit: Audit) -> None:
    audit.note("key_made", result="ok", key=made.key.key_id, file=made.file.name)
    typer.echo(f"{made.key.key_id} ({made.key.algorithm}) signs from {_moment(made.file.since)}")


def _drop(directory: KeyDirectory, replaced: Replacement, settings: AuthSettings, audit: Audit) -> None:
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - heavy

    from auth_service.keys import rotation  # noqa: PLC0415 - heavy

    key_ids = [it.key.key_id for it in replaced.dropped]
    untold, why = list(replaced.unread), ""
    try:
        asyncio.run(rotation.bar(settings.database_url, key_ids, time.time()))
    except (OperatorError, SQLAlchemyError, OSError) as error:
        untold, why = [*key_ids, *untold], f" ({str(error).splitlines()[0]})"
    rotation.remove(directory, replaced)  # even so: nobody who asks from now on is to learn of them
    for key_id in key_ids:
        audit.note("key_dropped", result="ok", key=key_id)
        typer.echo(f"{key_id} is dropped")
    if untold:
        raise OperatorError(
            f"all keys are replaced, but no gateway is told of {', '.join(untold)}{why}: until it fetches the JWKS "
            'again it takes their tokens; tell it with POST /api/revoke {"kid": "<key id>"}'
        )


def _table(held: Sequence[Held], times: Times, now: float) -> list[str]:
    if not held:
        return ["no keys: the first one is made when the service starts"]
    files = [it.file for it in held]
    lines = [
        ("KEY ID", "ALGORITHM", "STATE", "FILE"),
        *(
            (it.key.key_id, str(it.key.algorithm), _state(it.file, files, times, now), it.file.name)
            for it in sorted(held, key=lambda it: it.file)
        ),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _state(file: KeyFile, files: Sequence[KeyFile], times: Times, now: float) -> str:
    signs, end = signer(files, now), retires_at(file, files, times)
    if file == signs:
        return f"signs since {_moment(file.since)}" if file.since <= now else "signs, for want of another"
    if file > signs:
        return f"signs from {_moment(file.since)}"
    return f"verifies until {_moment(end)}" if end is not None and file in published(files, now, times) else "retired"


def _moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
