from __future__ import annotations

import sys
from typing import Any

import pytest

from gateway.settings import Settings, check
from gateway.settings.workers import from_bytes, to_bytes, worker_faults, worker_ports, worker_settings

REDIS = "redis://:pa55@127.0.0.1:6379"


def settings(engine: str = REDIS, **server: Any) -> Settings:
    """Return settings of workers."""
    sections = {"engine": {"url": engine}, "http_server": {"workers": 2, "internal_port": 9000, **server}}
    return Settings.model_validate(sections)


def test_what_several_workers_can_have_is_no_fault() -> None:
    """Up to the last port; and a single node may have what several may not."""
    assert [] == list(worker_faults(settings()))
    assert [] == list(worker_faults(settings(workers=36, internal_port=65_500)))
    assert [] == list(worker_faults(Settings()))


@pytest.mark.parametrize(
    ("engine", "server", "says"),
    [
        ("memory://", {}, "http_server.workers: memory:// keeps all in one process"),
        (REDIS, {"port": 0}, "http_server.port: should be a number"),
        (REDIS, {"internal_port": None}, "http_server.internal_port: should be set"),
        (REDIS, {"internal_port": 0}, "http_server.internal_port: should be set"),
        (REDIS, {"workers": 37, "internal_port": 65_500}, "leaves no room for 37 ports"),
        (REDIS, {"port": 9001}, "http_server.internal_port: port 9001 is the public one"),
    ],
)
def test_what_they_cannot_have_is_a_fault_of_its_own(engine: str, server: dict[str, Any], says: str) -> None:
    """Each is told in one line that names the setting."""
    (fault,) = worker_faults(settings(engine, **server))
    assert says in fault


def test_several_workers_need_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the kernel would give all connections to one of them."""
    monkeypatch.setattr(sys, "platform", "darwin")
    (fault,) = worker_faults(settings())
    assert "Linux" in fault


def test_checking_tells_it_before_anything_starts() -> None:
    """As a fault beside all others, by flag or variable."""
    environ = {"GATEWAY_CLIENT__INSECURE": "true"}
    faults = check({"http_server.workers": 2}, environ=environ).faults
    assert ["http_server.workers", "http_server.internal_port"] == [it.partition(":")[0] for it in faults]
    (fault,) = check({}, environ=environ | {"GATEWAY_HTTP_SERVER__WORKERS": "0"}).faults
    assert fault.startswith("GATEWAY_HTTP_SERVER__WORKERS: ")


def test_each_worker_has_its_own_name_and_port() -> None:
    """The public port is shared; the number of workers stays, for what they share."""
    whole = settings(workers=3)
    mine = [worker_settings(whole, index) for index in range(3)]
    assert [9000, 9001, 9002] == [it.http_server.internal_port for it in mine] == list(worker_ports(whole))
    assert {(8000, True, 3)} == {
        (it.http_server.port, it.http_server.reuse_port, it.http_server.workers) for it in mine
    }
    assert 3 == len({it.node.name for it in mine})
    named = whole.model_copy(update={"node": whole.node.model_copy(update={"name": "edge"})})
    assert "edge_2" == worker_settings(named, 2).node.name
    assert {whole.engine} == {it.engine for it in mine}


def test_settings_survive_the_way_to_a_worker() -> None:
    """Every value, nested ones and secrets in clear: a worker runs by what was checked."""
    whole = Settings.model_validate(
        {
            "engine": {"url": REDIS, "command_timeout": "200ms"},
            "client": {
                "token": {
                    "hmac_secret_key": "5ecret " * 5,
                    "issuers": [{"oidc_issuer": "https://login.example", "algorithms": ["ES256"]}],
                },
                "allowed_origins": ["https://a.example", "https://*.b.example"],
            },
            "channel": {"namespaces": [{"name": "load", "history_size": 10, "history_ttl": "1h30m"}]},
            "http_api": {"key": "k3y"},
            "http_server": {"workers": 2, "internal_port": 9000, "trusted_proxies": ["10.0.0.0/8"]},
            "log": {"level": "WARN"},
        }
    )
    there = from_bytes(to_bytes(whole))
    assert whole == there
    assert ("5ecret " * 5, "k3y") == (there.client.token.secrets[0], there.http_api.key.get_secret_value())
    assert Settings() == from_bytes(to_bytes(Settings()))


def test_a_setting_that_cannot_travel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new kind of value is a fault here, and not a setting that workers see otherwise."""
    monkeypatch.setattr(Settings, "model_dump", lambda _: {"engine": {"url": object()}})
    with pytest.raises(TypeError, match="no setting is a object"):
        to_bytes(Settings())
