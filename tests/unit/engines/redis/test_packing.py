"""Commands as bytes: what a well-known packer makes of them, piece by piece."""

from __future__ import annotations

from typing import Any

import pytest
from hiredis import pack_command
from hypothesis import given
from hypothesis import strategies as st

from gateway.engines.redis.packing import Args, pack

_ARGUMENTS = st.one_of(st.text(), st.binary(max_size=2000), st.integers())


@given(st.lists(_ARGUMENTS, min_size=1, max_size=12).map(tuple))
def test_commands_are_what_hiredis_makes_of_them(args: Any) -> None:
    """Whatever the arguments are, the server reads the same."""
    out: list[bytes] = []

    pack(args, out)

    assert pack_command(args) == b"".join(out)


@pytest.mark.parametrize("size", [0, 1023, 1024, 100_000])
def test_arguments_of_any_length(size: int) -> None:
    """The lengths that are kept ready and those that are not are written alike."""
    out: list[bytes] = []

    pack(("SET", "k", b"x" * size), out)

    assert b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n" % (size, b"x" * size) == b"".join(out)


def test_a_command_that_cannot_be_packed_leaves_nothing_behind() -> None:
    """Half a command would make the server read the next one as its rest."""
    out = [b"before"]
    broken: Args = ("SET", "fine", "\ud83d")

    with pytest.raises(UnicodeEncodeError):
        pack(broken, out)

    assert [b"before"] == out
