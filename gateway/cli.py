"""The command line: `gateway serve | drain | health | demo | token | check-config`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import structlog
import typer

import gateway
from gateway.build import build
from gateway.errors import OperatorError
from gateway.log import configure as configure_logs
from gateway.settings import Checked, Settings, check
from gateway.settings.durations import parse_duration
from gateway.settings.printing import as_json, as_toml

DEMO_KEYS: Final = Path(".demo/keys")

log = structlog.get_logger(__name__)

app = typer.Typer(
    name="gateway",
    help="A realtime gateway: WebSocket connections, fan-out through Redis, presence, recovery.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

ConfigFile: TypeAlias = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration: TOML, YAML or JSON.")
]


def main() -> None:
    """Run the command line; what the operator can mend is one line per fault on standard error and exit code 1."""
    try:
        app()
    except OperatorError as error:
        for line in str(error).splitlines():
            print(f"gateway: {line}", file=sys.stderr)  # noqa: T201 - talking to the terminal is what a CLI is for
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"realtime-gateway {gateway.__version__} ({build()})")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Stand in front of all commands."""


@app.command()
def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [default: 8000]")] = None,
    config: ConfigFile = None,
    reuse_port: Annotated[
        bool | None, typer.Option("--reuse-port", help="Share the port with other processes (SO_REUSEPORT).")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Nodes on the one port, a process each; they need Redis. [default: 1]"),
    ] = None,
) -> None:
    """Run one node, or several on one port, until SIGTERM or Ctrl-C.

    A node uses one core. With --workers a small parent runs N complete nodes: the kernel spreads connections over them,
    each serves health, metrics and API on an internal port of its own (http_server.internal_port, the next, and so on),
    and one that dies is started again. --reuse-port is for nodes that you start yourself.

    Every setting can stand in the file or in a variable: client.insecure is GATEWAY_CLIENT__INSECURE. Flags win over
    variables, variables over the file. `gateway check-config --print toml` shows all settings.

    \b
    Examples:
      $ GATEWAY_CLIENT__INSECURE=true gateway serve --port 8000
      $ gateway serve --host 0.0.0.0 --config gateway.toml
      $ GATEWAY_HTTP_SERVER__INTERNAL_PORT=9000 gateway serve --workers 4 --config gateway.toml
    """
    flags = {
        "http_server.address": host,
        "http_server.port": port,
        "http_server.reuse_port": reuse_port,
        "http_server.workers": workers,
    }
    checked = _check(flags, config)
    if checked.settings is None or checked.faults:
        raise OperatorError("\n".join(checked.faults))
    raise typer.Exit(_serve(checked.settings, checked.warnings))


@app.command()
def drain(
    *,
    url: Annotated[
        str, typer.Option(help="A node's API. [default: as in the settings, the internal port first; all workers]")
    ] = "",
    config: ConfigFile = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when everybody has been moved away.")] = False,
    timeout: Annotated[
        str,
        typer.Option(metavar="DURATION", help="How long to wait. [default: what shutdown.* allow, at least 60s]"),
    ] = "",
) -> None:
    """Empty a running node, for a preStop hook: not ready, then no newcomers, then everybody moved away.

    It finds the node by the settings it was started with, and needs their http_api.key; with several workers it empties
    all of them at once, with --url one. The node then waits for SIGTERM, which drains too when nobody did before.

    \b
    Examples:
      $ gateway drain --wait --config gateway.toml
      $ GATEWAY_HTTP_API__KEY=secret gateway drain --url http://127.0.0.1:9000
    """
    from gateway import leaving  # noqa: PLC0415 - no other command needs it

    checked = check({}, config=config, environ=os.environ)
    if checked.settings is None:
        raise OperatorError("\n".join(checked.faults))
    seconds = _seconds(timeout, "--timeout") if timeout else None
    leaving.drain(leaving.errands(checked.settings, url=url, wait=wait, timeout=seconds), sys.stdout)


@app.command()
def health(
    *,
    url: Annotated[
        str, typer.Option(help="Where a node serves its health. [default: as in the settings; all workers]")
    ] = "",
    config: ConfigFile = None,
    live: Annotated[bool, typer.Option("--live", help="Ask only whether it answers.")] = False,
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="How long it may take.")] = "3s",
) -> None:
    """Ask a running node whether it is ready, for a container's health check.

    It finds the node by the settings it was started with; with several workers all of them must be ready. A node is
    ready when it wants new connections: not before Redis has answered once, and no more when it drains.

    \b
    Examples:
      $ gateway health
      $ gateway health --live --url http://127.0.0.1:9000
    """
    from gateway import asking, leaving  # noqa: PLC0415 - no other command needs them

    seconds = _seconds(timeout, "--timeout")
    if url:
        return asking.ask([url], live=live, timeout=seconds)
    checked = check({}, config=config, environ=os.environ)
    if checked.settings is None:
        raise OperatorError("\n".join(checked.faults))
    return asking.ask(leaving.node_urls(checked.settings), live=live, timeout=seconds)


@app.command()
def demo(
    *,
    port: Annotated[int, typer.Option(help="Port of the first node, which serves the page.")] = 8000,
    auth_port: Annotated[int, typer.Option(help="Port of the auth service.")] = 8001,
    second_port: Annotated[int, typer.Option(help="Port of the second node.")] = 8002,
    directory: Annotated[Path, typer.Option(help="Where keys, users and logs are kept.")] = Path(".demo"),
    redis: Annotated[str, typer.Option(metavar="URL", help="Use this Redis instead of bringing one along.")] = "",
    token_seconds: Annotated[
        int, typer.Option(min=5, max=3600, help="Life of access tokens; the page renews them on the open link.")
    ] = 600,
) -> None:
    """Run everything on this machine: Valkey, the auth service, two nodes and the chat page.

    \b
    Examples:
      $ gateway demo
      $ gateway demo --port 9000 --auth-port 9001 --second-port 9002
    """
    from gateway.demo import Plan, run  # noqa: PLC0415 - no other command needs what the demo imports

    ports = {"port": port, "auth_port": auth_port, "second_port": second_port}
    run(Plan(**ports, directory=directory, redis=redis, token_seconds=token_seconds))


@app.command()
def token(
    *,
    user: Annotated[str, typer.Option(help="Who the token is for.")],
    channel: Annotated[list[str] | None, typer.Option(help="Subscribe to this channel on connect; repeatable.")] = None,
    ttl: Annotated[str, typer.Option(metavar="DURATION", help="How long it is good for: 600, 10m, 1h30m.")] = "600s",
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Private key (PEM) to sign with, or the auth service's folder of them."),
    ] = None,
    hmac: Annotated[str, typer.Option(metavar="SECRET", help="Shared secret to sign with (HS256).")] = "",
    audience: Annotated[str, typer.Option(help="Claim `aud`; empty: none.")] = "gateway",
    issuer: Annotated[str, typer.Option(help="Claim `iss`; empty: none.")] = "",
) -> None:
    """Print a token for a user, signed by hand; without --key and --hmac with that of `gateway demo`.

    \b
    Examples:
      $ gateway token --user alice
      $ gateway token --user alice --channel chat:lobby --ttl 1h --hmac 0123456789abcdef0123456789abcdef
      $ gateway token --user alice --key auth_keys
    """
    from gateway.minting import Order, sign_with_key, sign_with_secret  # noqa: PLC0415 - loads all of cryptography

    order = Order(user=user, ttl=_seconds(ttl, "--ttl"), channels=channel or (), audience=audience, issuer=issuer)
    if key is None and not hmac and not DEMO_KEYS.exists():
        raise OperatorError(
            f"nothing to sign with: give --key or --hmac, or run `gateway demo`, which makes {DEMO_KEYS}"
        )
    typer.echo(sign_with_secret(order, hmac) if hmac and key is None else sign_with_key(order, key or DEMO_KEYS))


@app.command("check-config")
def check_config(
    config: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Configuration: TOML, YAML, JSON.")] = None,
    *,
    form: Annotated[
        Literal["toml", "json"] | None,
        typer.Option("--print", help="Print all settings as they stand, secrets masked."),
    ] = None,
) -> None:
    """Say what is wrong or without effect in a file and in the variables, all at once.

    \b
    Examples:
      $ gateway check-config gateway.toml
      $ GATEWAY_CLIENT__INSECURE=true gateway check-config --print toml
    """
    checked = _check({}, config)
    for warning in checked.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if checked.settings and form:
        typer.echo(as_json(checked.settings) if form == "json" else as_toml(checked.settings))
    if checked.faults:
        raise OperatorError("\n".join(checked.faults))
    if not form:
        typer.echo("ok")


def _seconds(text: str, option: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise OperatorError(f"{option}: {error}") from None


def _check(flags: Mapping[str, object], config: Path | None) -> Checked:
    """Check the settings, and that there is an engine for them."""
    from gateway.resolver import check_engine  # noqa: PLC0415 - plug-ins are loaded by the commands that need them

    checked = check(flags, config=config, environ=os.environ)
    if checked.settings is None:
        return checked
    try:
        check_engine(checked.settings.engine.url)
    except OperatorError as error:
        return Checked(checked.settings, [*checked.faults, str(error)], checked.warnings)
    return checked


def _serve(settings: Settings, warnings: Sequence[str]) -> int:
    """Run a node, or become the parent of several; return the exit code. Raises OperatorError."""
    configure_logs(settings.log.level, settings.log.format)
    for warning in warnings:
        log.warning("settings.warning", detail=warning)
    if settings.http_server.workers > 1:
        from gateway.workers.becoming import become_parent  # noqa: PLC0415 - for this only

        become_parent(settings)
    from gateway.serving import serve_node  # noqa: PLC0415 - FastAPI and uvicorn take half a second to load

    return serve_node(settings)


if __name__ == "__main__":
    main()
