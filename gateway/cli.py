"""The command line: `gateway serve | demo | token | check-config`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import structlog
import typer

import gateway
from gateway.errors import OperatorError
from gateway.log import configure as configure_logs
from gateway.settings import Checked, Settings, check
from gateway.settings.durations import parse_duration
from gateway.settings.printing import as_json, as_toml

DEMO_KEY: Final = Path(".demo/signing_key.pem")

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
        typer.echo(f"realtime-gateway {gateway.__version__}")
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
) -> None:
    """Run one node until SIGTERM or Ctrl-C.

    Every setting can stand in the file or in a variable: client.insecure is GATEWAY_CLIENT__INSECURE. Flags win over
    variables, variables over the file. `gateway check-config --print toml` shows all settings.

    \b
    Examples:
      $ GATEWAY_CLIENT__INSECURE=true gateway serve --port 8000
      $ gateway serve --host 0.0.0.0 --config gateway.toml
    """
    flags = {"http_server.address": host, "http_server.port": port, "http_server.reuse_port": reuse_port}
    checked = _check(flags, config)
    if checked.settings is None or checked.faults:
        raise OperatorError("\n".join(checked.faults))
    raise typer.Exit(_serve(checked.settings, checked.warnings))


@app.command()
def demo(
    *,
    port: Annotated[int, typer.Option(help="Port of the first node, which serves the page.")] = 8000,
    auth_port: Annotated[int, typer.Option(help="Port of the auth service.")] = 8001,
    second_port: Annotated[int, typer.Option(help="Port of the second node.")] = 8002,
    directory: Annotated[Path, typer.Option(help="Where keys, users and logs are kept.")] = Path(".demo"),
    redis: Annotated[str, typer.Option(metavar="URL", help="Use this Redis instead of bringing one along.")] = "",
) -> None:
    """Run everything on this machine: Valkey, the auth service, two nodes and the chat page.

    \b
    Examples:
      $ gateway demo
      $ gateway demo --port 9000 --auth-port 9001 --second-port 9002
    """
    from gateway.demo import Plan, run  # noqa: PLC0415 - no other command needs what the demo imports

    run(Plan(port=port, auth_port=auth_port, second_port=second_port, directory=directory, redis=redis))


@app.command()
def token(
    *,
    user: Annotated[str, typer.Option(help="Who the token is for.")],
    channel: Annotated[list[str] | None, typer.Option(help="Subscribe to this channel on connect; repeatable.")] = None,
    ttl: Annotated[str, typer.Option(metavar="DURATION", help="How long it is good for: 600, 10m, 1h30m.")] = "600s",
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key (PEM) to sign with.")] = None,
    hmac: Annotated[str, typer.Option(metavar="SECRET", help="Shared secret to sign with (HS256).")] = "",
    audience: Annotated[str, typer.Option(help="Claim `aud`; empty: none.")] = "gateway",
    issuer: Annotated[str, typer.Option(help="Claim `iss`; empty: none.")] = "",
) -> None:
    """Print a token for a user, signed by hand; without --key and --hmac with the key of `gateway demo`.

    \b
    Examples:
      $ gateway token --user alice
      $ gateway token --user alice --channel chat:lobby --ttl 1h --hmac 0123456789abcdef0123456789abcdef
      $ gateway token --user alice --key signing_key.pem
    """
    from gateway.minting import Order, sign_with_key, sign_with_secret  # noqa: PLC0415 - loads all of cryptography

    order = Order(user=user, ttl=_seconds(ttl), channels=channel or (), audience=audience, issuer=issuer)
    if key is None and not hmac and not DEMO_KEY.exists():
        raise OperatorError(
            f"nothing to sign with: give --key or --hmac, or run `gateway demo`, which makes {DEMO_KEY}"
        )
    typer.echo(sign_with_secret(order, hmac) if hmac and key is None else sign_with_key(order, key or DEMO_KEY))


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


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise OperatorError(f"--ttl: {error}") from None


def _check(flags: Mapping[str, object], config: Path | None) -> Checked:
    """Check the settings, and that there is an engine for them."""
    from gateway.resolver import engine_for  # noqa: PLC0415 - plug-ins are loaded by the commands that need them

    checked = check(flags, config=config, environ=os.environ)
    if checked.settings is None:
        return checked
    try:
        engine_for(checked.settings.engine.url)
    except OperatorError as error:
        return Checked(checked.settings, [*checked.faults, str(error)], checked.warnings)
    return checked


def _serve(settings: Settings, warnings: Sequence[str]) -> int:
    """Listen, join the parts, run; return the exit code. Raises OperatorError."""
    from gateway.app import create_gateway  # noqa: PLC0415 - FastAPI and uvicorn take half a second to load
    from gateway.server import Listener, ServerRules, listen, run  # noqa: PLC0415 - as above

    configure_logs(settings.log.level, settings.log.format)
    for warning in warnings:
        log.warning("settings.warning", detail=warning)
    made, http = create_gateway(settings), settings.http_server
    sockets = [listen(http.address, http.port, reuse_port=http.reuse_port)]
    listeners = [Listener(made.public, sockets[0])]
    if made.internal is not None and http.internal_port is not None:
        address = http.internal_address or http.address
        sockets.append(listen(address, http.internal_port, option="http_server.internal_port"))
        listeners.append(Listener(made.internal, sockets[1], websockets=False))
    for socket in sockets:
        address, port = socket.getsockname()[:2]
        log.info("server.listening", url=f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}")
    rules = ServerRules(
        recorder=made.metrics,
        admission=made.admission,
        proxies=made.proxies,
        http=made.http_limits,
        websocket=made.websocket_limits,
        on_drain=made.drain,
    )
    return run(listeners, rules=rules)


if __name__ == "__main__":
    main()
