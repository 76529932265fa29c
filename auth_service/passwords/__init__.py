"""Passwords: their rules, their hashes, and how often they may be tried."""
