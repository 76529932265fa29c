from __future__ import annotations

import platform
from pathlib import Path

import pytest

from loadtests.watching.machine import cpu_model, engine_version, machine, versions
from tests.support.ports import free_port
from tests.support.valkey import Valkey


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (
            "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Fast  CPU @ 3.00GHz\nmodel name\t: other\n",
            "Fast CPU @ 3.00GHz",
        ),
        ("processor : 0\nModel : Board 4\n", "Board 4"),
        ("processor : 0\nBogoMIPS : 50\n", ""),
        ("", ""),
    ],
)
def test_the_name_of_the_processor(cpuinfo: str, expected: str) -> None:
    """The first processor's name without its padding; nothing where the kernel has none."""
    assert expected == cpu_model(cpuinfo)


def test_this_machine() -> None:
    """Everything is known that a figure is void without."""
    here = machine()
    assert here.cores >= 1
    assert here.memory > 100 << 20
    assert here.model
    assert here.python.endswith(platform.python_version())
    assert platform.system() in here.system


def test_versions_of_all_that_took_part() -> None:
    """The generator's own, what the nodes said, and the engine if it is known."""
    found = versions({"gateway": "1.0"}, "Valkey 9")
    assert {"python", "uvloop", "msgspec", "gateway", "engine"} == set(found)
    assert platform.python_version() == found["python"]
    assert ("1.0", "Valkey 9") == (found["gateway"], found["engine"])
    assert "engine" not in versions({})


async def test_a_server_says_what_it_is(tmp_path: Path) -> None:
    """A running Valkey is named with its version; one that is not there, not at all."""
    server = Valkey(tmp_path)
    server.start()
    try:
        name, number = (await engine_version(server.url)).split(" ")
    finally:
        server.stop()
    assert "Valkey" == name
    assert number[0].isdigit()
    assert "" == await engine_version(f"redis://127.0.0.1:{free_port()}/0")
