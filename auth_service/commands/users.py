"""The commands `auth-service user`: who may log in, with which password, and what their tokens say."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from auth_service import log
from auth_service.commands import text as cli_text
from auth_service.commands.text import operate
from auth_service.errors import OperatorError
from auth_service.passwords.rules import fault
from auth_service.settings import load
from auth_service.variables import PASSWORD_VARIABLE

if TYPE_CHECKING:  # heavy: help and refusals need not wait for the database's libraries
    from auth_service.commands.operating import Operator
    from auth_service.store import Account, Claims

user = typer.Typer(help="Users in the database.", no_args_is_help=True)

Database = Annotated[str | None, typer.Option(help="SQLAlchemy URL; default AUTH_DATABASE_URL, else ./auth.db.")]
Stdin = Annotated[bool, typer.Option("--password-stdin", help="One line for each name.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...")]
Roles = Annotated[list[str] | None, typer.Option("--role", help="Claim `roles`; may be given several times.")]
Channels = Annotated[list[str] | None, typer.Option("--channel", help="Claim `channels`; may be given several times.")]
Info = Annotated[str | None, typer.Option("--info", metavar="JSON", help="Claim `info`.")]


@user.command(
    epilog="\b\nExamples:\n  auth-service user add alice\n"
    "  printf 'secret-of-alice\\nsecret-of-bob\\n' | auth-service user add alice bob --password-stdin --if-missing\n"
    '  auth-service user add carol --role moderator --info \'{"name": "Carol"}\' --channel news'
)
def add(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="1 to 64 of A-Z a-z 0-9 _ . -")],
    *,
    password_stdin: Stdin = False,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Leave users that exist as they are.")] = False,
    role: Roles = None,
    info: Info = None,
    channel: Channels = None,
    database: Database = None,
) -> None:
    """Add users. Passwords come from standard input, the variable AUTH_USER_PASSWORD, or a prompt."""
    log.configure()
    settings = load(database_url=database)
    from auth_service.accounts.claims import claims  # noqa: PLC0415 - heavy, see above

    given = claims(role or [], info, channel or [])
    wanted = _passwords(names, password_stdin)

    async def work(operator: Operator) -> None:
        for name, password in wanted.items():
            added = await operator.add(name, password, given)
            if not added and not if_missing:
                raise OperatorError(f"user {name!r} exists; --if-missing leaves it as it is")
            typer.echo(f"{name}: {'added' if added else 'exists'}")

    operate(settings, work)


@user.command(
    epilog="\b\nExamples:\n  auth-service user change carol --role moderator --role editor\n"
    "  auth-service user change carol --no-roles --info null"
)
def change(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    role: Roles = None,
    no_roles: Annotated[bool, typer.Option("--no-roles", help="Take all roles away.")] = False,
    info: Info = None,
    channel: Channels = None,
    no_channels: Annotated[bool, typer.Option("--no-channels", help="Take all channels away.")] = False,
    database: Database = None,
) -> None:
    """Change what a user's next tokens say; what is not named stays.

    Tokens that are out say the old until they expire, after AUTH_ACCESS_TOKEN_SECONDS at the latest;
    `auth-service sessions revoke --user NAME` ends them at once.
    """
    log.configure()
    from auth_service.accounts.claims import claims  # noqa: PLC0415 - heavy, see above

    def changed(old: Claims) -> Claims:
        roles = [] if no_roles else role or old.roles
        channels = [] if no_channels else channel or old.channels
        return claims(roles, json.dumps(old.info) if info is None else info, channels)

    async def work(operator: Operator) -> None:
        account = await operator.change(name, changed)
        typer.echo(f"{account.name}: {json.dumps(account.claims.said(), ensure_ascii=False)}")

    operate(load(database_url=database), work)


@user.command(epilog="\b\nExamples:\n  auth-service user passwd alice")
def passwd(names: Names, password_stdin: Stdin = False, database: Database = None) -> None:
    """Set passwords, from standard input, the variable AUTH_USER_PASSWORD, or a prompt; all their sessions end."""
    log.configure()
    settings = load(database_url=database)
    wanted = _passwords(names, password_stdin)

    async def work(operator: Operator) -> None:
        for name, password in wanted.items():
            ended = await operator.set_password(name, password)
            typer.echo(f"{name}: password set, {cli_text.count(ended, 'session')} ended")

    operate(settings, work)


@user.command(epilog="\b\nExamples:\n  auth-service user disable alice")
def disable(names: Names, database: Database = None) -> None:
    """Keep users from logging in, end all their sessions, and close what they opened at the gateway."""
    log.configure()

    async def work(operator: Operator) -> None:
        for name in names:
            typer.echo(f"{name}: disabled, {cli_text.count(await operator.disable(name), 'session')} ended")

    operate(load(database_url=database), work)


@user.command(epilog="\b\nExamples:\n  auth-service user enable alice")
def enable(names: Names, database: Database = None) -> None:
    """Let disabled users log in again."""
    log.configure()

    async def work(operator: Operator) -> None:
        for name in names:
            await operator.enable(name)
            typer.echo(f"{name}: enabled")

    operate(load(database_url=database), work)


@user.command("list", epilog="\b\nExamples:\n  auth-service user list\n  auth-service user list --json")
def list_users(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False, database: Database = None
) -> None:
    """List all users by name."""
    log.configure()

    async def work(operator: Operator) -> None:
        found = await operator.users()
        lines = map(_as_json, found) if as_json else cli_text.table(_HEAD, map(_row, found))
        for line in lines:
            typer.echo(line)

    operate(load(database_url=database), work)


_HEAD = ("NAME", "STATE", "SINCE", "ROLES", "CHANNELS")


def _row(account: Account) -> tuple[str, ...]:
    disabled = account.disabled_at is not None
    since = cli_text.moment(account.disabled_at if account.disabled_at is not None else account.created_at)
    said = account.claims
    state = "disabled" if disabled else "enabled"
    return account.name, state, since, ",".join(said.roles) or "-", ",".join(said.channels) or "-"


def _as_json(account: Account) -> str:
    said = account.claims
    shown = {"name": account.name, "created_at": account.created_at, "disabled_at": account.disabled_at}
    shown |= {"roles": list(said.roles), "info": said.info, "channels": list(said.channels)}
    return json.dumps(shown, ensure_ascii=False)


def _passwords(names: list[str], from_stdin: bool) -> dict[str, str]:
    wanted = dict(zip(names, _typed(names, from_stdin), strict=True))
    for name, password in wanted.items():
        wrong = cli_text.fault_of_name(name) or fault(password, name)
        if wrong is not None:
            raise OperatorError(f"user {name!r}: {wrong}")
    return wanted


def _typed(names: list[str], from_stdin: bool) -> list[str]:
    if from_stdin:
        lines = [sys.stdin.readline().rstrip("\r\n") for _ in names]
        if not all(lines):
            raise OperatorError("standard input ended before there was a password for each name")
        return lines
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None:
        return [given] * len(names)
    return [str(typer.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True)) for name in names]
