"""The commands beside `serve`: users, sessions and keys from a shell."""
