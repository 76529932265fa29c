from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.settings import Checked, check
from gateway.settings.centrifugo_v6 import IGNORED, MAPPED, OURS, REFUSED, SWITCHED
from gateway.settings.classify import classify, own_keys


def checked(tmp_path: Path, content: object) -> Checked:
    """Check one configuration file."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return check(config=path, environ={"GATEWAY_CLIENT__INSECURE": "true"})


def nested(key: str, value: object) -> dict[str, object]:
    """Write one key as Centrifugo's files would hold it; `*` becomes a word."""
    first, *rest = (
        key.replace("<options>", "channel.without_namespace").replace("**", "x.y").replace("*", "x").split(".")
    )
    return {first: nested(".".join(rest), value) if rest else value}


def engine(tmp_path: Path, **redis: object) -> str:
    """Return our engine.url for Centrifugo's Redis engine."""
    settings = checked(tmp_path, {"engine": {"type": "redis", "redis": redis}}).settings
    assert settings is not None
    return settings.engine.url


def test_every_key_is_in_one_class() -> None:
    """No key of Centrifugo's is two things at once."""
    tables = [OURS, MAPPED, IGNORED, REFUSED, SWITCHED]
    keys = [key for table in tables for key in table]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("key", OURS)
def test_a_key_under_the_same_name_is_a_setting(key: str) -> None:
    """What the table calls ours can be set."""
    assert "ours" == own_keys()[key]


@pytest.mark.parametrize("key", [*MAPPED, *IGNORED, *REFUSED, *SWITCHED])
def test_a_key_that_is_not_ours_is_not_a_setting(key: str) -> None:
    """What the table says is not honoured is not honoured by accident."""
    assert key not in own_keys()


@pytest.mark.parametrize("ours", sorted(set(MAPPED.values())))
def test_what_is_mapped_is_mapped_to_a_setting(ours: str) -> None:
    """The other end of each mapping exists."""
    assert "ours" == own_keys()[ours]


@pytest.mark.parametrize("key", REFUSED)
def test_a_refused_key_stops_the_start(tmp_path: Path, key: str) -> None:
    """Whatever would grant, deny or move state here and there only is a fault that says what to do."""
    faults = checked(tmp_path, nested(key, "asked for")).faults
    assert 1 == len(faults)
    assert "in config.json: not supported: " in faults[0]


@pytest.mark.parametrize(("key", "row"), REFUSED.items())
def test_a_refused_key_may_say_no(tmp_path: Path, key: str, row: str | tuple[str, str]) -> None:
    """Centrifugo's own `defaultconfig` writes every key; those that ask for nothing do not hinder."""
    harmless: list[object] = [False, "", 0, None, [], {}]
    for value in harmless if isinstance(row, str) else [*harmless, row[0]]:
        result = checked(tmp_path, nested(key, value))
        assert ([], 1) == (list(result.faults), len(result.warnings)), value


@pytest.mark.parametrize("key", IGNORED)
def test_an_ignored_key_is_warned_of(tmp_path: Path, key: str) -> None:
    """The start goes on, and the operator is told why the key does nothing."""
    result = checked(tmp_path, nested(key, "something"))
    assert [] == list(result.faults)
    assert any("in config.json: ignored: " in warning for warning in result.warnings)


@pytest.mark.parametrize("key", SWITCHED)
def test_a_key_that_only_goes_with_a_refused_one_is_passed_over(tmp_path: Path, key: str) -> None:
    """Nothing is said of what has no meaning by itself."""
    result = checked(tmp_path, nested(key, "something"))
    assert ([], 1) == (list(result.faults), len(result.warnings))


def test_options_of_namespaces_are_refused_with_their_place(tmp_path: Path) -> None:
    """A namespace option that is not honoured is not ignored, and the fault says in which namespace it stands."""
    content = {"channel": {"namespaces": [{"name": "news"}, {"name": "cats", "delta_publish": True}]}}
    expected = ["channel.namespaces[1].delta_publish in config.json: not supported: deltas are not supported"]
    assert expected == list(checked(tmp_path, content).faults)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("client.proxy.connect.enabled", "refused"),
        ("client.proxy.connect.timeout", "switched"),
        ("client.proxy", "section"),
        ("client.proxi", "unknown"),
        ("channel.namespaces[3].subscribe_proxy_enabled", "refused"),
        ("channel.namespaces[3].nonsense", "unknown"),
        ("engine.redis.tls.enabled", "mapped"),
        ("engine.redis.tls.server_name", "switched"),
        ("websocket.compression_level", "ignored"),
        ("websocket.compressing", "unknown"),
        ("proxies", "refused"),
    ],
)
def test_keys_are_told_apart(key: str, kind: str) -> None:
    """An exact key wins over a pattern, and a pattern does not catch misspelt names beside it."""
    assert kind == classify(key).kind


@pytest.mark.parametrize(
    ("redis", "url"),
    [
        ({}, "redis://127.0.0.1:6379/0"),
        ({"address": "redis://a:1"}, "redis://a:1/0"),
        ({"address": ["redis://a:1/2"]}, "redis://a:1/2"),
        ({"address": "a:1", "db": 3}, "redis://a:1/3"),
        ({"address": "rediss://a:1"}, "rediss://a:1/0"),
        ({"address": "a:1", "tls": {"enabled": True}}, "rediss://a:1/0"),
        ({"address": "a:1", "password": "p@/ss"}, "redis://:p%40%2Fss@a:1/0"),
        ({"address": "redis://u:p@a:1", "user": "me"}, "redis://me:p@a:1/0"),
    ],
)
def test_the_redis_engine_becomes_a_url(tmp_path: Path, redis: dict[str, object], url: str) -> None:
    """Address, login, database and TLS of Centrifugo's engine are one URL here."""
    assert url == engine(tmp_path, **redis)


def test_prefix_and_timeout_of_the_redis_engine_are_kept(tmp_path: Path) -> None:
    """What else has a meaning here is taken over."""
    content = {"engine": {"type": "redis", "redis": {"prefix": "mine", "io_timeout": "4s"}}}
    settings = checked(tmp_path, content).settings
    assert settings is not None
    assert ("mine", 4.0) == (settings.engine.prefix, settings.engine.command_timeout)


def test_our_own_words_win(tmp_path: Path) -> None:
    """Who sets engine.url means it, whatever else is left in the file."""
    content = {"engine": {"type": "redis", "redis": {"address": "a:1"}, "url": "redis://b:2/0"}}
    settings = checked(tmp_path, content).settings
    assert settings is not None
    assert "redis://b:2/0" == settings.engine.url


def test_the_memory_engine_is_ours(tmp_path: Path) -> None:
    """`engine.type` memory needs no mapping."""
    settings = checked(tmp_path, {"engine": {"type": "memory", "redis": {"address": "a:1"}}}).settings
    assert settings is not None
    assert "memory://" == settings.engine.url


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"type": "nats"}, "engine.type: should be memory or redis, not nats"),
        ({"type": "redis", "redis": {"address": ["a:1", "b:2"]}}, "for several servers set engine.url"),
    ],
)
def test_engines_that_do_not_exist_here_are_faults(tmp_path: Path, content: object, says: str) -> None:
    """State is not moved to where nobody looks for it."""
    (fault,) = checked(tmp_path, {"engine": content}).faults
    assert says in fault


def test_every_key_of_version_6_is_classified() -> None:
    """The list of all its keys (lists as one key, namespace options once) holds none that we do not know."""
    keys = (Path(__file__).parent / "data" / "centrifugo_v6_keys.txt").read_text(encoding="utf-8").split()
    assert [] == [key for key in keys if classify(key).kind in ("unknown", "section")]
    assert set(OURS) <= set(keys)
