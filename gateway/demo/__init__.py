"""Everything on one machine by one command: Valkey, the auth service, two nodes and the chat page."""

from gateway.demo.main import run
from gateway.demo.plan import Plan

__all__ = ["Plan", "run"]
