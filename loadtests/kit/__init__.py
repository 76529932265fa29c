"""What every load test is made of: profiles, what is measured, and what is reported."""
