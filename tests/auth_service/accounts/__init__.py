"""Tests: auth_service/accounts."""
