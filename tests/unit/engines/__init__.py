"""Tests: unit, engines."""
