"""What the gateway must be told, kept until it has been told."""
