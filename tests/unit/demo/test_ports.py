"""Free ports: none twice before all were given, none that is taken, and a clear end."""

from __future__ import annotations

import socket

import pytest

from gateway.demo.ports import Ports, fault
from gateway.errors import OperatorError
from tests.support.ports import free_port


def test_each_port_is_given_once_a_round() -> None:
    """Two programs that have not bound their port yet never get the same one."""
    first = free_port()
    ports = Ports(range(first, first + 100))

    given = [ports.free() for _ in range(90)]  # the others may be in use

    assert len(given) == len(set(given))
    assert set(given) <= set(range(first, first + 100))


def test_taken_and_unwanted_ports_are_left_out() -> None:
    """Neither a port somebody listens on nor one that the caller keeps for something else is given."""
    with socket.create_server(("127.0.0.1", free_port())) as other:
        taken = other.getsockname()[1]
        free = next(it for it in range(taken + 1, taken + 100) if fault(it) is None)

        assert free == Ports(range(taken, free + 1)).free(besides=range(taken + 1, free))
        with pytest.raises(OperatorError, match=rf"no free port from {taken} to"):
            Ports(range(taken, free + 1)).free(besides={*range(taken + 1, free + 1)})
