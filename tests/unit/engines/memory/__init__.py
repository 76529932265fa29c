"""Tests: unit, the memory engine."""
