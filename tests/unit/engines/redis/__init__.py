"""Tests: unit, the Redis engine."""
