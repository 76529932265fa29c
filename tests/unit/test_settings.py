from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from gateway.errors import OperatorError
from gateway.protocol.channels import ChannelOptions
from gateway.settings import Checked, Settings, check, load
from gateway.settings.channel import NamespaceSettings, OptionsSettings
from gateway.settings.classify import own_keys, settable
from gateway.settings.durations import format_duration, parse_duration
from gateway.settings.section import MASK, Section
from gateway.settings.sources import variable

INSECURE = {"GATEWAY_CLIENT__INSECURE": "true"}


def write(folder: Path, text: str, name: str = "gateway.toml") -> Path:
    """Make a configuration file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def only_fault(checked: Checked) -> str:
    """Return the one fault that was found."""
    (fault,) = checked.faults
    return fault


# --- durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300s", 300),
        ("1h30m", 5400),
        ("200ms", 0.2),
        ("1.5h", 5400),
        ("0", 0),
        ("0s", 0),
        (25, 25),
        ("25", 25),
        (" 2s ", 2),
        (0.5, 0.5),
        (".5s", 0.5),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("10ns", 1e-8),
    ],
)
def test_durations_are_read_as_go_writes_them(text: object, seconds: float) -> None:
    """Centrifugo's files work, and a bare number counts seconds."""
    assert pytest.approx(seconds) == parse_duration(text)


@pytest.mark.parametrize("text", ["", "s", "5 s", "5d", "-5s", -1, "nan", "inf", True, None, [], "1h 2m", "0x10s"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="should be a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "25s", "1h30m", "720h", "200ms", "1m5s", "1s500ms"])
def test_durations_are_shown_as_they_are_written(text: str) -> None:
    """What `check-config --print` shows can be put into a file."""
    assert text == format_duration(parse_duration(text))


# --- sources


def test_flags_beat_variables_beat_the_file_beat_defaults(tmp_path: Path) -> None:
    """Each source overrides the ones below it, key by key."""
    config = write(tmp_path, "[http_server]\nport = 1\nconnections_per_ip = 2\nhead_timeout = '3s'\n")
    environ = INSECURE | {"GATEWAY_HTTP_SERVER__PORT": "4", "GATEWAY_HTTP_SERVER__CONNECTIONS_PER_IP": "5"}
    server = load({"http_server.port": 6, "http_server.address": None}, config=config, environ=environ).http_server
    assert (6, 5, 3.0) == (server.port, server.connections_per_ip, server.head_timeout)
    assert "127.0.0.1" == server.address


CONTENT = {"client": {"insecure": True, "allowed_origins": ["https://a.example"], "token": {"leeway": "5s"}}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "[client]\ninsecure = true\nallowed_origins = ['https://a.example']\ntoken.leeway = '5s'\n"),
        ("a.yaml", "client:\n  insecure: true\n  allowed_origins: [https://a.example]\n  token: {leeway: 5s}\n"),
        ("a.YML", "client: {insecure: true, allowed_origins: [https://a.example], token: {leeway: 5}}\n"),
        ("a.json", json.dumps(CONTENT)),
    ],
)
def test_files_are_toml_yaml_or_json(tmp_path: Path, name: str, text: str) -> None:
    """One configuration, three ways to write it."""
    client = load(config=write(tmp_path, text, name), environ={}).client
    assert (True, ("https://a.example",), 5.0) == (client.insecure, client.allowed_origins, client.token.leeway)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.ini", "", "ends in .toml, .yaml, .yml or .json"),
        ("a.toml", "[client\n", "is not valid TOML: "),
        ("a.yaml", "a: [\n", "is not valid YAML: "),
        ("a.json", "{", "is not valid JSON: "),
        ("a.json", "[]", "should hold sections such as [client], not a list"),
        ("a.yaml", "just text", "should hold sections such as [client], not a str"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    """No traceback: which file, and what is the matter."""
    fault = only_fault(check(config=write(tmp_path, text, name), environ=INSECURE))
    assert says in fault
    assert str(tmp_path / name) in fault
    assert "\n" not in fault


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    """The name is repeated, and why it cannot be read."""
    path = tmp_path / "no.toml"
    assert f"{path}: cannot be read: No such file or directory" == only_fault(check(config=path, environ=INSECURE))


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    """A file of comments only is a valid file."""
    assert Settings() == check(config=write(tmp_path, "# nothing\n", "a.yaml"), environ={}).settings


def test_lists_come_as_one_json_value() -> None:
    """A list in a variable is JSON, namespaces too."""
    namespaces = '[{"name": "news", "history_size": 10, "history_ttl": "60s"}]'
    environ = INSECURE | {
        "GATEWAY_CLIENT__ALLOWED_ORIGINS": '["https://a.example", "https://*.b.example"]',
        "GATEWAY_CHANNEL__NAMESPACES": namespaces,
    }
    settings = load(config=None, environ=environ)
    assert ("https://a.example", "https://*.b.example") == settings.client.allowed_origins
    assert [("news", 10, 60.0)] == [(it.name, it.history_size, it.history_ttl) for it in settings.channel.namespaces]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("GATEWAY_CLIENT__ALLOWED_ORIGINS", "https://a.example", "should be a list (in a variable, one JSON value)"),
        ("GATEWAY_CLIENT__ALLOWED_ORIGINS", "[oops", "is not valid JSON"),
        ("GATEWAY_CHANNEL__NAMESPACES", '["news"]', "[0]"),
        ("GATEWAY_CLIENT", "{}", "is a section; set GATEWAY_CLIENT__<KEY>"),
        ("GATEWAY_HTTP_SERVER__PORT", "eighty", "should be a valid integer"),
        ("GATEWAY_HTTP_SERVER__PORT", "70000", "less than or equal to 65535"),
        ("GATEWAY_HTTP_SERVER__TRUSTED_PROXIES", '["10.0.0.1/8"]', "has host bits set"),
        ("GATEWAY_CLIENT__INSECURE", "perhaps", "should be a valid boolean"),
        ("GATEWAY_CLIENT__PING_INTERVAL", "soon", "should be a duration"),
        ("GATEWAY_CLIENT__PONG_TIMEOUT", "30s", "pong_timeout should be shorter than ping_interval"),
        ("GATEWAY_CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT", "auth:8001", "should be an http:// or https:// URL"),
        ("GATEWAY_HTTP_SERVER__INTERNAL_PORT", "8000", "internal_port should differ from port"),
        ("GATEWAY_LOG__LEVEL", "loud", "should be 'debug', 'info'"),
        ("GATEWAY_ENGINE__URL", "redis", "should match pattern"),
    ],
)
def test_a_bad_variable_is_one_line_with_its_name(name: str, text: str, says: str) -> None:
    """The fault names the variable and what it should be, and does not repeat its value."""
    fault = only_fault(check(config=None, environ=INSECURE | {name: text}))
    assert says in fault
    assert name.rpartition("__")[0] in fault
    assert "\n" not in fault


def test_a_bad_secret_is_not_repeated() -> None:
    """A fault in a setting that holds a password does not print it."""
    fault = only_fault(check(config=None, environ=INSECURE | {"GATEWAY_ENGINE__URL": "s3cret"}))
    assert "s3cret" not in fault


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """An operator mends everything in one go: `load` raises with a line for each."""
    config = write(tmp_path, "[client]\nchannel_limit = 0\nping_interval = 'x'\n[chat]\nrate = -1\n")
    with pytest.raises(OperatorError) as raised:
        load(config=config, environ={})
    lines = str(raised.value).splitlines()
    assert ["client.channel_limit", "client.ping_interval", "chat.rate"] == [line.split(" in ")[0] for line in lines]
    assert all("gateway.toml: " in line for line in lines)


# --- misspelt names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GATEWAY_CLIENT__PING_INTERVALL", "GATEWAY_CLIENT__PING_INTERVAL"),
        ("GATEWAY_PING_INTERVAL", "GATEWAY_CLIENT__PING_INTERVAL"),
        ("GATEWAY_HTTP_SERVER_PORT", "GATEWAY_HTTP_SERVER__PORT"),
        ("GATEWAY_ENGINE__URI", "GATEWAY_ENGINE__URL"),
        ("GATEWAY_CHANNEL__WITHOUT_NAMESPACE__PRESENSE", "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__PRESENCE"),
    ],
)
def test_a_misspelt_variable_names_the_nearest(name: str, meant: str) -> None:
    """A variable that would have been ignored in silence stops the start instead."""
    assert f"{name}: no such setting; did you mean {meant}?" == only_fault(check(config=None, environ={name: "1"}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[client]\nping_intervall = 1",
            "client.ping_intervall in gateway.toml: no such setting; did you mean client.p",
        ),
        ("ping_interval = 1", "did you mean client.ping_interval?"),
        ('"client.insecure" = true', "did you mean client.insecure?"),
        ("[clients]\ninsecure = true", "clients in gateway.toml: no such setting"),
        ("client = 1", "client in gateway.toml: is a section and holds keys"),
        ("[engine.redis]\nadress = 'x'", "engine.redis.adress in gateway.toml: no such setting"),
        ("[channel.without_namespace]\npresense = true", "did you mean channel.without_namespace.presence?"),
        ("[[channel.namespaces]]\nname = 'ab'\nhistory_sise = 1", "did you mean channel.namespaces[0].history_size?"),
        ("[xyzzy]\nfoo = 1", "xyzzy in gateway.toml: no such setting"),
    ],
)
def test_a_misspelt_key_names_the_nearest(tmp_path: Path, text: str, says: str) -> None:
    """The same for files, in sections and namespaces."""
    assert says in only_fault(check(config=write(tmp_path, text), environ=INSECURE))


def test_names_that_kubernetes_injects_are_left_alone() -> None:
    """A Service called gateway, or gateway-redis, in the namespace does not stop the start."""
    environ = INSECURE | {
        "GATEWAY_PORT": "tcp://10.0.0.1:80",
        "GATEWAY_PORT_80_TCP": "tcp://10.0.0.1:80",
        "GATEWAY_PORT_80_TCP_PROTO": "tcp",
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT": "80",
        "GATEWAY_SERVICE_PORT_HTTP": "80",
        "GATEWAY_REDIS_SERVICE_HOST": "10.0.0.2",
        "GATEWAY_REDIS_PORT": "tcp://10.0.0.2:6379",
        "GATEWAY_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2",
        "OTHER": "1",
    }
    assert [] == list(check(config=None, environ=environ).faults)


def test_no_setting_of_ours_looks_injected() -> None:
    """A setting with such a name could never be set inside Kubernetes."""
    for key in settable():
        assert not variable(key).startswith(("GATEWAY_PORT", "GATEWAY_SERVICE"))


def test_a_variable_below_one_that_is_no_section_changes_nothing() -> None:
    """Both names are wrong; the first is told, and nothing breaks."""
    environ = INSECURE | {"GATEWAY_WEBB": "1", "GATEWAY_WEBB__ENABLED": "1"}
    assert "GATEWAY_WEBB: no such setting" in only_fault(check(config=None, environ=environ))


# --- the tree


def sections(section: type[Section]) -> list[type[Section]]:
    """Return a section and all below it."""
    inner = [it.annotation for it in section.model_fields.values()]
    below = [it for it in inner if isinstance(it, type) and issubclass(it, Section)]
    return [section, *(it for each in below for it in sections(each))]


@pytest.mark.parametrize("section", [*sections(Settings), NamespaceSettings], ids=lambda it: it.__name__)
def test_every_setting_is_described_in_a_line(section: type[Section]) -> None:
    """The reference is made from these lines, so none may be missing or long."""
    for name, field in section.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert len(field.description) < 100, name


def test_the_tree_is_frozen() -> None:
    """Nobody changes a setting at run time."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().http_server.port = 1


def test_defaults_are_valid() -> None:
    """What nobody set passes its own bounds."""
    assert Settings() == Settings.model_validate(Settings().model_dump())


def test_namespace_options_are_those_the_core_honours() -> None:
    """An option is a setting exactly if `ChannelOptions` has it: nothing is accepted and then ignored."""
    assert {it.name for it in dataclasses.fields(ChannelOptions)} == set(OptionsSettings.model_fields)


def test_secrets_are_not_shown() -> None:
    """Neither a log of the settings nor their JSON shows keys or the password in the engine's URL."""
    environ = {
        "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": "s3cret",
        "GATEWAY_HTTP_API__KEY": "s3cret",
        "GATEWAY_ENGINE__URL": "redis://user:s3cret@host:6379/0",
    }
    settings = load(config=None, environ=environ)
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in settings.model_dump_json()
    assert f"redis://user:{MASK}@host:6379/0" == settings.model_dump(mode="json")["engine"]["url"]
    assert "redis://user:s3cret@host:6379/0" == settings.engine.url


@pytest.mark.parametrize("url", ["memory://", "redis://host:6379/0", "redis://user@host/0"])
def test_a_url_without_password_is_shown_whole(url: str) -> None:
    """Only what is secret is masked."""
    settings = Settings.model_validate({"engine": {"url": url}})
    assert url == settings.model_dump(mode="json")["engine"]["url"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@a/0,redis://u:s3,cret@b", f"redis://:{MASK}@a/0,redis://u:{MASK}@b"),
        ("redis+cluster://u:s3cret@a:1,b:2", f"redis+cluster://u:{MASK}@a:1,b:2"),
        (
            "redis+sentinel://:s3cret@a:1,b:2/main?sentinel_password=s3@cret&ssl_cert_reqs=none",
            f"redis+sentinel://:{MASK}@a:1,b:2/main?sentinel_password={MASK}&ssl_cert_reqs=none",
        ),
        ("redis+sentinel://a:1/main?sentinel_password=s3@cret", f"redis+sentinel://a:1/main?sentinel_password={MASK}"),
        ("redis://[::1:s3cret@host", f"redis://[:{MASK}@host"),
        ("redis://:s3/cr?et@host/0", f"redis://:{MASK}@host/0"),
    ],
)
def test_all_passwords_of_several_servers_are_masked(url: str, shown: str) -> None:
    """Each URL of a list, the login of sentinels, and what was not encoded as it should be."""
    settings = Settings.model_validate({"engine": {"url": url}})
    assert shown == settings.model_dump(mode="json")["engine"]["url"]


def test_what_is_printed_can_be_read_back() -> None:
    """The effective tree is itself a valid configuration."""
    settings = load(config=None, environ=INSECURE)
    assert settings == Settings.model_validate(settings.model_dump(mode="json"))


@pytest.mark.parametrize(("level", "means"), [("warn", "warning"), ("TRACE", "debug"), ("fatal", "critical")])
def test_levels_have_centrifugos_names_too(level: str, means: str) -> None:
    """A log.level of Centrifugo's means the nearest of ours."""
    assert means == load(config=None, environ=INSECURE | {"GATEWAY_LOG__LEVEL": level}).log.level


def test_an_internal_port_may_be_empty() -> None:
    """An empty variable means unset, as in Centrifugo."""
    environ = INSECURE | {"GATEWAY_HTTP_SERVER__INTERNAL_PORT": ""}
    assert load(config=None, environ=environ).http_server.internal_port is None


# --- channels


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("history_size = 10", "history needs both history_size and history_ttl"),
        ("history_ttl = '10s'", "history needs both history_size and history_ttl"),
        ("force_recovery = true", "force_recovery needs history_size and history_ttl"),
        ("history_size = 1\nhistory_ttl = '1500ms'", "should be whole seconds"),
        ("history_size = 1\nhistory_ttl = '2h'\nhistory_meta_ttl = '1h'", "history_meta_ttl should not be shorter"),
        ("history_size = 1\nhistory_ttl = '721h'", "history_meta_ttl should not be shorter than history_ttl"),
        ("channel_regex = '('", "is no regular expression"),
        ("publication_data_format = 'binary'", "publication_data_format"),
        ("presence = 'perhaps'", "should be a valid boolean"),
    ],
)
@pytest.mark.parametrize("where", ["[channel.without_namespace]\n", "[[channel.namespaces]]\nname = 'news'\n"])
def test_options_that_contradict_each_other_are_faults(tmp_path: Path, options: str, says: str, where: str) -> None:
    """A channel that could not keep its promise is not configured."""
    fault = only_fault(check(config=write(tmp_path, where + options), environ=INSECURE))
    assert says in fault
    assert fault.startswith("channel")


@pytest.mark.parametrize("name", ["a", "with space", "a:b", "ä!", ""])
def test_namespace_names_have_a_pattern(name: str) -> None:
    """A name that could not stand in a channel is refused."""
    environ = INSECURE | {"GATEWAY_CHANNEL__NAMESPACES": json.dumps([{"name": name}])}
    assert "GATEWAY_CHANNEL__NAMESPACES[0].name: should match pattern" in only_fault(
        check(config=None, environ=environ)
    )


def test_namespace_names_are_unique() -> None:
    """Of two namespaces with one name only one could count."""
    environ = INSECURE | {"GATEWAY_CHANNEL__NAMESPACES": '[{"name": "news"}, {"name": "news"}]'}
    assert "each name may stand once: news" in only_fault(check(config=None, environ=environ))


def test_a_namespace_needs_a_name() -> None:
    """Also one that says nothing at all."""
    environ = INSECURE | {"GATEWAY_CHANNEL__NAMESPACES": "[{}]"}
    fault = only_fault(check(config=None, environ=environ))
    assert "GATEWAY_CHANNEL__NAMESPACES[0].name: should be a valid string" == fault


# --- keys


def test_without_a_way_to_check_tokens_the_three_ways_are_named() -> None:
    """Neither key nor JWKS nor insecure: no start, and the operator knows what to choose from."""
    checked = check(config=None, environ={})
    assert checked.settings == Settings()
    fault = only_fault(checked)
    assert all(
        way in fault
        for way in ("client.token.jwks_public_endpoint", "client.token.hmac_secret_key", "client.insecure = true")
    )
    with pytest.raises(OperatorError, match="no key to check tokens with"):
        load(config=None, environ={})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY", "k"),
        ("GATEWAY_CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT", "http://127.0.0.1:8001/.well-known/jwks.json"),
        ("GATEWAY_CLIENT__INSECURE", "1"),
    ],
)
def test_one_way_to_check_tokens_is_enough(name: str, value: str) -> None:
    """Each of the three alone starts."""
    assert [] == list(check(config=None, environ={name: value}).faults)


def test_insecure_is_warned_of() -> None:
    """Nobody runs open to everybody without a line in the log."""
    (warning,) = check(config=None, environ=INSECURE).warnings
    assert warning.startswith("client.insecure: everybody may do everything")


def test_known_keys_cover_the_whole_tree() -> None:
    """Every field of every section can be named by an operator."""
    keys = own_keys()
    assert "ours" == keys["client.token.hmac_secret_key"]
    assert "section" == keys["client.token"]
    assert "ours" == keys["<options>.history_ttl"]
    assert len([it for it in keys.values() if it == "ours"]) > 70
