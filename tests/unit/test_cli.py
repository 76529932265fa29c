from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway import __version__, cli, leaving
from gateway.settings import Settings
from gateway.settings.printing import as_toml
from tests.support.logs import logging_as_before

SECRET = "0123456789abcdef0123456789abcdef"
INSECURE = {"GATEWAY_CLIENT__INSECURE": "true"}
COMMANDS = ("serve", "drain", "health", "demo", "token", "check-config")


@dataclass
class Ran:
    """What came of a command."""

    code: object
    out: str
    err: str


Run: TypeAlias = Callable[..., Ran]


@pytest.fixture(name="run")
def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Give a way to run the console script in an empty folder and without variables of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in [it for it in os.environ if it.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, env: dict[str, str] | None = None) -> Ran:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["gateway", *arguments])
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        printed = capsys.readouterr()
        return Ran(ended.value.code, printed.out, printed.err)

    with logging_as_before():
        yield run


def private_key(folder: Path, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Path:
    """Write a key as the auth service keeps it."""
    path = folder / "first.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


# --- help


def test_the_first_help_names_all_commands(run: Run) -> None:
    """Without a command, or with --help, one learns what there is."""
    shown = run("--help")
    assert 0 == shown.code
    assert COMMANDS == tuple(re.findall(r"^  ([a-z-]+)  ", shown.out.partition("Commands:")[2], re.MULTILINE))
    assert "Commands:" in run().out + run().err


def examples(run: Run, command: str) -> list[str]:
    """Return the command lines in a command's help."""
    return [line.strip()[2:] for line in run(command, "--help").out.splitlines() if line.strip().startswith("$ ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_teaches_by_examples(run: Run, command: str) -> None:
    """Every command shows at least one line to copy, of that very command."""
    lines = examples(run, command)
    assert lines
    assert all(f"gateway {command}" in line for line in lines)


def test_the_examples_of_token_work(run: Run, tmp_path: Path) -> None:
    """Each prints a token for alice, once the keys they name are there."""
    for folder in (".demo/keys", "auth_keys"):
        (tmp_path / folder).mkdir(parents=True)
        private_key(tmp_path / folder, ed25519.Ed25519PrivateKey.generate())
    for line in examples(run, "token"):
        made = run(*shlex.split(line)[1:])
        assert 0 == made.code
        assert "alice" == jwt.decode(made.out.strip(), options={"verify_signature": False})["sub"]


def test_the_examples_of_check_config_work(run: Run, tmp_path: Path) -> None:
    """One says ok of a good file, the other prints all settings."""
    (tmp_path / "gateway.toml").write_text("[client]\ninsecure = true\n")
    for line in examples(run, "check-config"):
        words = shlex.split(line)
        env = dict(it.split("=", 1) for it in words[: words.index("gateway")])
        checked = run(*words[words.index("gateway") + 1 :], env=env)
        assert 0 == checked.code
        assert checked.out.strip() == "ok" or "[client.token]" in checked.out


def test_the_version_is_shown(run: Run) -> None:
    """For bug reports."""
    assert f"realtime-gateway {__version__} (interpreted)\n" == run("--version").out


# --- faults


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_faults_are_one_line_each(run: Run, command: str) -> None:
    """Every fault is told at once, without a traceback, and the exit code says that it failed."""
    env = {"GATEWAY_CLIENT__PING_INTERVALL": "1", "GATEWAY_HTTP_SERVER_PORT": "1"}
    refused = run(command, env=env)
    assert 1 == refused.code
    assert [
        "gateway: GATEWAY_CLIENT__PING_INTERVALL: no such setting; did you mean GATEWAY_CLIENT__PING_INTERVAL?",
        "gateway: GATEWAY_HTTP_SERVER_PORT: no such setting; did you mean GATEWAY_HTTP_SERVER__PORT?",
    ] == refused.err.splitlines()


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_an_engine_that_does_not_exist_is_a_fault(run: Run, command: str) -> None:
    """The choices are listed before anything starts."""
    refused = run(command, env=INSECURE | {"GATEWAY_ENGINE__URL": "carrier-pigeon://coop"})
    assert 1 == refused.code
    assert "no engine 'carrier-pigeon'; there are memory://" in refused.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://x:y", "the port is not a number"),
        ("redis+cluster://a/1", "no databases"),
        ("rediss+sentinel://:pa55@a,b", "name the service"),
        ("memory://here", "memory:// takes nothing after it"),
    ],
)
def test_a_bad_engine_url_is_a_fault_before_anything_starts(run: Run, url: str, says: str) -> None:
    """Checking reads the URL as its engine will, and connects to nothing."""
    refused = run("check-config", env=INSECURE | {"GATEWAY_ENGINE__URL": url})
    assert 1 == refused.code
    assert says in refused.err
    assert "pa55" not in refused.err
    accepted = run("check-config", env=INSECURE | {"GATEWAY_ENGINE__URL": "redis+sentinel://127.0.0.1:1/main"})
    assert 0 == accepted.code


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_without_a_key_nothing_starts(run: Run, command: str) -> None:
    """The three ways are named."""
    refused = run(command)
    assert 1 == refused.code
    assert "client.token.jwks_public_endpoint" in refused.err


def test_a_missing_file_is_a_fault(run: Run) -> None:
    """The line names it."""
    refused = run("serve", "--config", "no.toml")
    assert (1, "gateway: no.toml: cannot be read: No such file or directory\n") == (refused.code, refused.err)


# --- serve


def test_flags_reach_the_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given on the command line wins over variables; the exit code is that of the server."""
    seen: list[Settings] = []

    def serve(settings: Settings, _warnings: object) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(cli, "_serve", serve)
    env = INSECURE | {"GATEWAY_HTTP_SERVER__PORT": "1"}
    assert 0 == run("serve", "--host", "127.0.0.9", "--port", "7", "--reuse-port", env=env).code
    assert 0 == run("serve", env=env).code
    assert [("127.0.0.9", 7, True), ("127.0.0.1", 1, False)] == [
        (it.http_server.address, it.http_server.port, it.http_server.reuse_port) for it in seen
    ]


WORKERS = {"GATEWAY_ENGINE__URL": "redis://127.0.0.1:1", "GATEWAY_HTTP_SERVER__INTERNAL_PORT": "9000"}


def test_several_workers_need_a_parent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more than one the command becomes the parent; the flag wins over the variable, so one is a plain node."""
    became: list[int] = []

    def become(settings: Settings) -> None:
        became.append(settings.http_server.workers)
        sys.exit(0)

    monkeypatch.setattr("gateway.workers.becoming.become_parent", become)
    monkeypatch.setattr("gateway.serving.serve_node", lambda _: 7)
    env = INSECURE | WORKERS
    assert 0 == run("serve", "--workers", "3", env=env).code
    assert 0 == run("serve", env=env | {"GATEWAY_HTTP_SERVER__WORKERS": "2"}).code
    assert 7 == run("serve", "--workers", "1", env=env | {"GATEWAY_HTTP_SERVER__WORKERS": "2"}).code
    assert [3, 2] == became


def test_several_workers_without_redis_are_refused(run: Run) -> None:
    """Before anything starts, by `check-config`, too; all that is missing is told at once."""
    refused = run("check-config", env=INSECURE | {"GATEWAY_HTTP_SERVER__WORKERS": "2"})
    assert 1 == refused.code
    faults = refused.err.splitlines()[-2:]
    assert faults[0].startswith("gateway: http_server.workers: memory:// keeps all in one process")
    assert faults[1].startswith("gateway: http_server.internal_port: should be set with several workers")
    assert 1 == run("serve", "--workers", "2", env=INSECURE).code
    assert 0 == run("check-config", env=INSECURE | WORKERS | {"GATEWAY_HTTP_SERVER__WORKERS": "2"}).code


# --- drain


def test_the_options_of_drain_become_an_errand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings say where and with which key; options win; a missing token key is not its business."""
    seen: list[leaving.Errand] = []
    monkeypatch.setattr(leaving, "drain", lambda errands, _: seen.extend(errands))
    env = {"GATEWAY_HTTP_API__KEY": "k", "GATEWAY_HTTP_SERVER__INTERNAL_PORT": "9000"}
    assert 0 == run("drain", env=env).code
    assert 0 == run("drain", "--wait", "--timeout", "1m30s", "--url", "http://other:1", env=env).code
    assert [
        leaving.Errand("http://127.0.0.1:9000", "k", wait=False, timeout=70.0),
        leaving.Errand("http://other:1", "k", wait=True, timeout=90.0),
    ] == seen


@pytest.mark.parametrize(
    ("words", "env", "says"),
    [
        ([], {}, "http_api.key is empty, so nobody may ask: set it, or send SIGTERM, which drains too"),
        (["--timeout", "soon"], {"GATEWAY_HTTP_API__KEY": "k"}, "--timeout: should be a duration"),
        ([], {"GATEWAY_SHUTDOWN__WINDOW": "301s"}, "GATEWAY_SHUTDOWN__WINDOW: "),
    ],
)
def test_a_drain_that_cannot_be_asked_for_is_one_line(
    run: Run, words: list[str], env: dict[str, str], says: str
) -> None:
    """What is missing or wrong is named."""
    refused = run("drain", *words, env=env)
    assert 1 == refused.code
    assert f"gateway: {says}" in refused.err
    assert 1 == len(refused.err.splitlines())


# --- check-config


def test_warnings_are_no_faults(run: Run, tmp_path: Path) -> None:
    """What is ignored is said, and the configuration is still good."""
    (tmp_path / "c.toml").write_text("[client]\nconcurrency = 8\ntoken.hmac_secret_key = 'k'\n")
    checked = run("check-config", "c.toml")
    assert (0, "ok\n") == (checked.code, checked.out)
    assert "warning: client.concurrency in c.toml: ignored: " in checked.err


@pytest.mark.parametrize("form", ["toml", "json"])
def test_the_printed_settings_are_a_configuration(run: Run, tmp_path: Path, form: str) -> None:
    """Both forms can be saved and used again, and hold every setting."""
    namespaces = '[{"name": "news", "history_size": 5, "history_ttl": "1h"}, {"name": "cats"}]'
    printed = run("check-config", "--print", form, env=INSECURE | {"GATEWAY_CHANNEL__NAMESPACES": namespaces}).out
    (tmp_path / f"again.{form}").write_text(printed)
    again = run("check-config", f"again.{form}", "--print", form)
    assert (0, printed) == (again.code, again.out)
    tree = tomllib.loads(printed) if form == "toml" else json.loads(printed)
    assert ["news", "cats"] == [it["name"] for it in tree["channel"]["namespaces"]]
    assert set(Settings.model_fields) == set(tree)


def test_secrets_are_not_printed(run: Run) -> None:
    """The output can be pasted into a bug report."""
    env = {"GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": "s3cret", "GATEWAY_ENGINE__URL": "redis://:s3cret@127.0.0.1/0"}
    printed = run("check-config", "--print", "toml", env=env)
    assert 0 == printed.code
    assert "s3cret" not in printed.out
    assert "redis://:*" in printed.out


def test_toml_is_written_for_odd_text() -> None:
    """Quotes, line ends and letters of all kinds survive."""
    odd = 'a "b"\n\\ é \u2028'
    settings = Settings.model_validate({"node": {"name": odd}})
    assert odd == tomllib.loads(as_toml(settings))["node"]["name"]


# --- token


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (rsa.generate_private_key(65537, 2048), "RS256"),
    ],
    ids=["ed25519", "p-256", "p-384", "rsa"],
)
def test_a_token_is_signed_as_the_key_asks(
    run: Run,
    tmp_path: Path,
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    algorithm: str,
) -> None:
    """Algorithm and key id follow from the file, and the public key verifies it."""
    made = run("token", "--user", "bob", "--key", str(private_key(tmp_path, key)), "--issuer", "me").out.strip()
    claims = jwt.decode(made, key.public_key(), algorithms=[algorithm], audience="gateway", issuer="me")
    header = jwt.get_unverified_header(made)
    assert ("bob", algorithm) == (claims["sub"], header["alg"])
    assert 43 == len(header["kid"])


def test_a_token_says_what_was_asked(run: Run) -> None:
    """Channels, life time and audience are claims; what is empty is not there."""
    words = ["--channel", "chat:a", "--channel", "b", "--ttl", "1h30m", "--audience", "", "--hmac", SECRET]
    made = run("token", "--user", "", *words).out.strip()
    claims = jwt.decode(made, SECRET, algorithms=["HS256"])
    assert {"sub", "iat", "exp", "channels"} == set(claims)
    assert ("", ["chat:a", "b"], 5400) == (claims["sub"], claims["channels"], claims["exp"] - claims["iat"])


def test_a_short_secret_signs_too(run: Run) -> None:
    """It is the secret somebody has set; no warning of a library gets into the output."""
    made = run("token", "--user", "a", "--hmac", "short")
    assert (0, "") == (made.code, made.err)


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ({"first.pem": 100}, "first.pem"),
        ({"first.pem": 100, "1000.pem": 5000}, "first.pem"),
        ({"first.pem": 100, "{now}-label.pem": 0, "{later}.pem": 200}, "{now}-label.pem"),
        ({"{later}.pem": 0, "{latest}.pem": 0}, "{later}.pem"),
        ({"own.pem": 10, "first.pem": 100, ".9.pem": 0, "notes.txt": 0}, "own.pem"),
    ],
    ids=["the only one", "by name, not by age of the file", "not before its time", "the first to come", "own names"],
)
def test_of_a_folder_of_keys_the_one_that_signs_now_signs(
    run: Run, tmp_path: Path, ages: dict[str, int], expected: str
) -> None:
    """As the auth service chooses: the newest whose time has come, by its name or else by when it was made."""
    now = int(time.time())
    moments = {"now": now - 60, "later": now + 1000, "latest": now + 2000}
    folder = tmp_path / "keys"
    folder.mkdir()
    signs = ""
    for name, age in ages.items():
        path = folder / name.format(**moments)
        private_key(tmp_path, ed25519.Ed25519PrivateKey.generate()).rename(path)
        os.utime(path, (now - age, now - age))
        if name == expected:
            signs = run("token", "--user", "bob", "--key", str(path)).out
    made = run("token", "--user", "bob", "--key", str(folder)).out
    assert signs
    assert jwt.get_unverified_header(signs.strip()) == jwt.get_unverified_header(made.strip())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--key", "empty"], "empty: holds no key (*.pem)"),
        ([], "nothing to sign with: give --key or --hmac, or run `gateway demo`"),
        (["--key", "no.pem"], "no.pem: cannot be read: No such file or directory"),
        (["--key", "text.pem"], "text.pem: is no private key in PEM form"),
        (["--ttl", "soon", "--hmac", SECRET], "--ttl: should be a duration"),
        (["--ttl", "-5", "--hmac", SECRET], "--ttl: should be a duration"),
    ],
)
def test_a_token_that_cannot_be_made_is_one_line(run: Run, tmp_path: Path, words: list[str], says: str) -> None:
    """What is missing or wrong is named."""
    (tmp_path / "text.pem").write_text("no key")
    (tmp_path / "empty").mkdir()
    refused = run("token", "--user", "alice", *words)
    assert 1 == refused.code
    assert f"gateway: {says}" in refused.err
    assert 1 == len(refused.err.splitlines())
