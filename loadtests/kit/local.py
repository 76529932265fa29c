"""The target when none is named: a node and a Valkey on this machine, with an issuer of their own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.demo.ports import free_port
from loadtests.identity import KID, Issuer
from loadtests.kit.profile import Profile
from loadtests.kit.target import Target, TargetError, Tokens

HISTORY: Final = 1000  # publications
OPEN: Final = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
NAMESPACES: Final[Mapping[str, Mapping[str, object]]] = {
    "load": OPEN,
    "history": {
        **OPEN,
        "history_size": HISTORY,
        "history_ttl": "10m",
        "force_recovery": True,
        "allow_history_for_client": True,
    },
    "presence": {
        **OPEN,
        "presence": True,
        "join_leave": True,
        "force_push_join_leave": True,
        "allow_presence_for_client": True,
    },
}


def namespace(name: str) -> Mapping[str, object]:
    """Return the options that a target needs for this namespace of the profiles. Raises TargetError."""
    if name not in NAMESPACES:
        known = ", ".join(NAMESPACES)
        raise TargetError(f"the local node has no namespace {name!r}, but {known}; name a --target that has")
    return {"name": name, **NAMESPACES[name]}


def config(profile: Profile, jwks: str, engine: str) -> Mapping[str, object]:
    """Return the node's settings: limits that are there for strangers are lifted, since one machine plays them all."""
    missed = profile.missed + 100
    wanted = dict(namespace(profile.namespace)) if profile.namespace else {}
    if "history_size" in wanted:
        wanted["history_size"] = max(HISTORY, missed)
    return {
        "engine": {"url": engine},
        "client": {
            "command_rate": 0,
            "connection_rate_limit": 0,
            "rejoin_rate": 0,
            "channel_limit": max(128, profile.channels),
            "recovery_max_publication_limit": max(300, missed),
            "token": {"jwks_public_endpoint": jwks},
        },
        "http_server": {"connections_per_ip": 0},
        "channel": {"namespaces": [wanted]} if wanted else {"without_namespace": OPEN},
        "log": {"level": "warning", "format": "json"},
    }


@contextmanager
def local(profile: Profile) -> Iterator[Target]:
    """Run a node on the first core and a Valkey on the second, where there is one. Raises TargetError."""
    if profile.namespace:
        namespace(profile.namespace)
    try:
        from loadtests.bench import shipped  # noqa: PLC0415 - a tool for developers
        from loadtests.bench.rig import python, server, valkey  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise TargetError(f"without --target a Valkey is started here, and {error}: install the `dev` extra") from None
    issuer, port = Issuer(), free_port()
    with ExitStack() as stack:
        jwks, engine = stack.enter_context(issuer.serving()), stack.enter_context(valkey())
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "node.json"
        path.write_text(json.dumps(config(profile, jwks, engine)), encoding="utf-8")
        command = python("-m", "gateway.cli", "serve", "--port", str(port), "--config", str(path))
        stack.enter_context(server(command, port=port, ready="/health/ready", environ=shipped.environ()))
        key = issuer.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        url = f"http://127.0.0.1:{port}"
        yield Target(
            urls=[url],
            label="one node on this machine",
            tokens=Tokens(kind="signed", key=key, algorithm="EdDSA", kid=KID),
            metrics=[f"{url}/metrics"],
            engine=engine,
            local=True,
        )
