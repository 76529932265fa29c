"""The commands `auth-service sessions`: where a user is logged in, and the end of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from auth_service import log
from auth_service.commands import text as cli_text
from auth_service.commands.text import operate
from auth_service.errors import OperatorError
from auth_service.settings import load

if TYPE_CHECKING:  # heavy: help and refusals need not wait for the database's libraries
    from auth_service.commands.operating import Operator

sessions = typer.Typer(help="Where users are logged in.", no_args_is_help=True)

Database = Annotated[str | None, typer.Option(help="SQLAlchemy URL; default AUTH_DATABASE_URL, else ./auth.db.")]

_HEAD = ("SESSION", "BEGAN", "LAST USED", "ADDRESS", "CLIENT")


@sessions.command("list", epilog="\b\nExamples:\n  auth-service sessions list alice")
def list_sessions(name: Annotated[str, typer.Argument(metavar="NAME")], database: Database = None) -> None:
    """List the sessions of a user, the one last used first."""
    log.configure()

    async def work(operator: Operator) -> None:
        rows = [
            (it.session_id, cli_text.moment(it.created_at), cli_text.moment(it.used_at), it.address or "-", it.agent)
            for it in await operator.sessions(name)
        ]
        for line in cli_text.table(_HEAD, rows):
            typer.echo(line)

    operate(load(database_url=database), work)


@sessions.command(
    epilog="\b\nExamples:\n  auth-service sessions revoke Yk3tV5m2QhSxJ0aZb7nR4w\n"
    "  auth-service sessions revoke --user alice\n  auth-service sessions revoke --all"
)
def revoke(
    session_ids: Annotated[list[str] | None, typer.Argument(metavar="[SESSION]...")] = None,
    user: Annotated[str | None, typer.Option(help="All sessions of this user.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="All sessions of all users.")] = False,
    database: Database = None,
) -> None:
    """End sessions, and close what they opened at the gateway. An id that begins with a dash goes behind `--`."""
    log.configure()
    if bool(session_ids) + bool(user) + everybody != 1:
        raise OperatorError("name sessions, or a user with --user, or say --all")

    async def work(operator: Operator) -> None:
        for name in await operator.logged_in() if everybody else filter(None, [user]):
            typer.echo(f"{name}: {cli_text.count(await operator.revoke_all(name), 'session')} ended")
        for each in session_ids or ():
            await operator.revoke(each)
            typer.echo(f"{each}: ended")

    operate(load(database_url=database), work)
