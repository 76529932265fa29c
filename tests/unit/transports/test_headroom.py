from __future__ import annotations

import resource
from functools import partial
from pathlib import Path

import pytest

from gateway.transports.headroom import Headroom, cgroup_memory_limit, open_file_limit, resident_bytes


def test_a_descriptor_says_how_many_files_are_open() -> None:
    """Upgrades end 64 files before the limit, plain requests 32; without a limit there is room for all."""
    headroom = Headroom(file_limit=lambda: 1000)

    assert [True, False] == [headroom.upgrades_fit(number, 0.0) for number in (935, 936)]
    assert [True, False] == [headroom.requests_fit(number, 0.0) for number in (967, 968)]
    assert Headroom(file_limit=lambda: 0).requests_fit(1_000_000, 0.0)


def test_it_is_looked_up_once_a_second() -> None:
    """A thousand handshakes in a second cost one look; a limit that was changed counts a second later."""
    looks: list[int] = []

    def look() -> int:
        looks.append(1)
        return 200 if len(looks) == 1 else 100

    headroom = Headroom(file_limit=look)

    assert {True} == {headroom.upgrades_fit(100, now / 1000) for now in range(1000)}
    assert 1 == len(looks)
    assert not headroom.upgrades_fit(100, 1.0)
    assert 2 == len(looks)


def test_memory_ends_at_four_fifths() -> None:
    """What is over 80 % of the limit is too much; no limit, never."""
    fits = [Headroom(memory_limit=1000, resident=partial(int, used)).memory_fits(0.0) for used in (800, 801)]

    assert [True, False] == fits
    assert Headroom(resident=lambda: 1 << 50).memory_fits(0.0)


def test_this_process() -> None:
    """The kernel's own numbers: this test has some memory, and the file limit that is set."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert 1_000_000 < resident_bytes() < 1 << 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 777), hard))
    try:
        assert min(soft, 777) == open_file_limit()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert Headroom(memory_limit=1).memory_fits(0.0) is False


def test_unlimited_files_are_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system sets none, 0."""
    infinity = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: infinity)
    assert 0 == open_file_limit()


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/pod/app", {"pod/app/memory.max": "max", "pod/memory.max": "5000"}, 5000),
        ("0::/pod/app", {"pod/app/memory.max": "3000", "pod/memory.max": "5000"}, 3000),
        ("0::/", {"memory.max": "4000"}, 4000),
        ("0::/host/path", {"memory.max": "4000"}, 4000),  # inside a container: the group is the root here
        ("0::/", {}, 0),
        ("4:memory:/a\n2:cpu:/a", {"memory/a/memory.limit_in_bytes": "2000"}, 2000),
        ("4:cpu,memory:/a", {"cpu,memory/a/x": "", "memory/a/memory.limit_in_bytes": "2000"}, 2000),
        ("4:memory:/a", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 0),
        ("4:memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "2000", "unified/x": ""}, 2000),
        ("2:cpu:/a", {"cpu/a/memory.limit_in_bytes": "2000"}, 0),
    ],
)
def test_limits_of_control_groups(tmp_path: Path, membership: str, files: dict[str, str], limit: int) -> None:
    """Both versions, own group and those around it, lowest wins; "none" in either way of saying it is 0."""
    (tmp_path / "membership").write_text(membership + "\n")
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    assert limit == cgroup_memory_limit(tmp_path / "membership", tmp_path / "root")


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    """No limit."""
    assert 0 == cgroup_memory_limit(tmp_path / "nothing", tmp_path)
