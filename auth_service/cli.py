"""The command `auth-service`."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from auth_service import log
from auth_service.commands.keys import keys as keys_commands
from auth_service.commands.sessions import sessions as sessions_commands
from auth_service.commands.users import user as user_commands
from auth_service.errors import OperatorError
from auth_service.settings import load

cli = typer.Typer(
    help="The auth service: users, sessions, and the tokens that the gateway checks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
cli.add_typer(user_commands, name="user")
cli.add_typer(sessions_commands, name="sessions")
cli.add_typer(keys_commands, name="keys")

Database = Annotated[str | None, typer.Option(help="SQLAlchemy URL; default AUTH_DATABASE_URL, else ./auth.db.")]


@cli.command(
    epilog="\b\nExamples:\n  auth-service serve\n"
    "  auth-service serve --port 8001 --database sqlite:////var/lib/auth/auth.db --keys /var/lib/auth/keys"
)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8001,
    database: Database = None,
    keys: Annotated[Path | None, typer.Option(help="Folder of the signing keys (PEM); made if missing.")] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    All else is set by variables AUTH_<NAME>, for example AUTH_CORS_ORIGINS=http://127.0.0.1:8000.
    """
    log.configure()
    settings = load(database_url=database, key_dir=keys)
    # the port first: it is the likeliest to fail, and the imports below take most of a start; clients wait in its queue
    from auth_service import server  # noqa: PLC0415 - heavy

    with closing(server.listen(host, port)) as listening:
        from auth_service.app import create_app  # noqa: PLC0415 - heavy

        server.run(create_app(settings), listening, settings.trusted_proxies)


@cli.command(
    epilog="\b\nExamples:\n  auth-service migrate\n  auth-service migrate --database postgresql://auth@db.internal/auth"
)
def migrate(database: Database = None) -> None:
    """Bring the tables to the form of this release, as a start does unless AUTH_MIGRATE is off.

    It is done whole or not at all, by one process at a time. Make a backup first: there is no way back.
    """
    log.configure()
    settings = load(database_url=database)
    from auth_service.store import migrated  # noqa: PLC0415 - heavy

    before, after = asyncio.run(migrated(settings.database_url))
    typer.echo(f"revision {after}" if before == after else f"revision {before or 'none'} -> {after}")


@cli.command(epilog="\b\nExamples:\n  auth-service health\n  auth-service health --live --url http://127.0.0.1:8011")
def health(
    url: Annotated[str, typer.Option(help="Where it serves.")] = "http://127.0.0.1:8001",
    live: Annotated[bool, typer.Option("--live", help="Ask only whether it answers.")] = False,
) -> None:
    """Ask a running service whether it and its database are ready, for a container's health check."""
    from auth_service.commands.health import ask  # noqa: PLC0415 - no other command needs it

    ask(url, live=live)


def main() -> None:
    """Run the command; what the operator can mend is one line on standard error and exit code 1."""
    os.umask(0o077)  # database and keys are nobody else's business
    try:
        cli()
    except OperatorError as error:
        sys.stderr.write(f"auth-service: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
