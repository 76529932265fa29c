"""Everything an operator can decide: the frozen tree, its sources, and what the core is told of it."""

from gateway.settings.loading import Checked, check, load
from gateway.settings.policies import namespaces, node_name, policy_for
from gateway.settings.tree import Settings

__all__ = ["Checked", "Settings", "check", "load", "namespaces", "node_name", "policy_for"]
