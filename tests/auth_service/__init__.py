"""Tests: auth_service."""
