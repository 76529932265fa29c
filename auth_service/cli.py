"""The command `auth-service`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from auth_service import log
from auth_service.errors import OperatorError
from auth_service.settings import load

PASSWORD_VARIABLE = "AUTH_USER_PASSWORD"  # noqa: S105 - the name of a variable

cli = typer.Typer(
    help="The auth service: users, sessions, and the tokens that the gateway checks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
user = typer.Typer(help="Users in the database.", no_args_is_help=True)
cli.add_typer(user, name="user")

Database = Annotated[str | None, typer.Option(help="SQLAlchemy URL; default AUTH_DATABASE_URL, else ./auth.db.")]


@cli.command(
    epilog="\b\nExamples:\n  auth-service serve\n"
    "  auth-service serve --port 8001 --database sqlite:////var/lib/auth/auth.db --key /var/lib/auth/key.pem"
)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8001,
    database: Database = None,
    key: Annotated[Path | None, typer.Option(help="Signing key (PEM); made if missing.")] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    All else is set by variables AUTH_<NAME>, for example AUTH_CORS_ORIGINS=http://127.0.0.1:8000.
    """
    log.configure()
    settings = load(database_url=database, key_file=key)
    # the port first: it is the likeliest to fail, and the imports below take most of a start; clients wait in its queue
    from auth_service import server  # noqa: PLC0415 - heavy

    with closing(server.listen(host, port)) as listening:
        from auth_service.app import create_app  # noqa: PLC0415 - heavy

        server.run(create_app(settings), listening)


@user.command(
    epilog="\b\nExamples:\n  auth-service user add alice\n"
    "  printf 'secret-of-alice\\nsecret-of-bob\\n' | auth-service user add alice bob --password-stdin --if-missing"
)
def add(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="1 to 64 of A-Z a-z 0-9 _ . -")],
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="One line for each name.")] = False,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Leave users that exist as they are.")] = False,
    database: Database = None,
) -> None:
    """Add users. Passwords come from standard input, the variable AUTH_USER_PASSWORD, or a prompt."""
    settings = load(database_url=database)
    asyncio.run(
        _add(settings.database_url, list(zip(names, _passwords(names, password_stdin), strict=True)), if_missing)
    )


def _passwords(names: list[str], from_stdin: bool) -> list[str]:
    if from_stdin:
        lines = [sys.stdin.readline().rstrip("\r\n") for _ in names]
        if not all(lines):
            raise OperatorError("standard input ended before there was a password for each name")
        return lines
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None:
        return [given] * len(names)
    return [str(typer.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True)) for name in names]


async def _add(database_url: str, wanted: list[tuple[str, str]], if_missing: bool) -> None:
    from pydantic import ValidationError  # noqa: PLC0415 - see serve

    from auth_service.bodies import Registration  # noqa: PLC0415 - see serve
    from auth_service.passwords import Passwords  # noqa: PLC0415 - see serve
    from auth_service.store import open_store  # noqa: PLC0415 - see serve

    for name, password in wanted:
        try:
            Registration(username=name, password=password)
        except ValidationError as error:
            fault = error.errors(include_input=False)[0]
            raise OperatorError(f"user {name!r}: {fault['loc'][0]}: {fault['msg']}") from None
    async with open_store(database_url, now=time.time()) as store:
        with closing(Passwords(workers=1, limit=1)) as passwords:
            for name, password in wanted:
                missing = await store.user(name) is None
                added = missing and await store.add_user(name, await passwords.hash(password), time.time())
                if not added and not if_missing:
                    raise OperatorError(f"user {name!r} exists; --if-missing leaves it as it is")
                typer.echo(f"{name}: {'added' if added else 'exists'}")


def main() -> None:
    """Run the command; what the operator can mend is one line on standard error and exit code 1."""
    os.umask(0o077)  # database and key are nobody else's business
    try:
        cli()
    except OperatorError as error:
        sys.stderr.write(f"auth-service: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
