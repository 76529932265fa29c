"""What users may do: log in, stay logged in, end it, and what their tokens say."""
