"""What the demo prints once it runs: where it is, who may sign in, and what to try."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from gateway.demo.plan import Plan, Secrets, url
from gateway.demo.ports import HOST
from gateway.demo.programs import script


def guide(plan: Plan, secrets: Secrets) -> str:
    """Return the text. Every command in it works as it stands."""
    token = token_line(script("gateway"), plan.keys)
    first = url(plan.port)
    second = url(plan.second_port).replace(HOST, "localhost")  # another site to a browser: room for a second user
    users = "\n".join(f"{user}: {password}" for user, password in secrets.passwords.items())
    return f"""
Open {first}/ and, in a second window, {second}/
Sign in as one of

{users}

Then try, in another terminal:

# the server API: any node takes it, everybody in the room gets it
{publish_line(first, secrets.api_key)}

# a bare client on the other node (Ctrl-C ends it)
{python_line(plan.second_port, token)}

# a token for your own client
{token}

Logs and everything kept: {plan.directory}/   Ctrl-C stops it all.
"""


def publish_line(node: str, api_key: str) -> str:
    """Return a `curl` command that publishes to the lobby."""
    body = json.dumps({"channel": "chat:lobby", "data": {"message": "hello from curl"}})
    return f"curl -H {shlex.quote(f'X-API-Key: {api_key}')} -d {shlex.quote(body)} {node}/api/publish"


def token_line(gateway: str, keys: Path) -> str:
    """Return a command that prints a token for a user that the auth service does not even know."""
    return f"{_word(Path(gateway))} token --user dave --key {_word(keys)}"


def python_line(port: int, token: str) -> str:
    """Return a command that says hello in the lobby and prints what comes."""
    code = (
        "import sys; from contextlib import ExitStack; from websockets.sync.client import connect; "
        f"lobby = ExitStack().enter_context(connect('ws://{HOST}:{port}/ws/lobby?token=' + sys.argv[1])); "
        "lobby.send('hello from python'); [print(message) for message in lobby]"
    )
    return f'{_word(Path(sys.executable))} -uc "{code}" $({token})'


def _word(path: Path) -> str:
    """Return a path as a word for the shell, short when it is below the working directory."""
    near = Path(os.path.relpath(path))
    return shlex.quote(str(path if ".." in near.parts else near))
