"""Servers of others' making, started by the bench and measured in the same run."""
