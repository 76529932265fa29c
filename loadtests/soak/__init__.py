"""The soak: a crowd that comes and goes for minutes, a fault every half minute, and nothing left over in the end."""
