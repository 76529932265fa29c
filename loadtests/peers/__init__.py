"""Servers of others' making, started by the kit and measured in the same run as ours."""
