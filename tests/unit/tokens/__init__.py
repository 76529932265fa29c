"""Tests: gateway.tokens."""
