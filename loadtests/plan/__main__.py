"""`python -m loadtests.plan`, the same as `python -m loadtests plan`."""

from loadtests.plan.command import app

if __name__ == "__main__":
    app(prog_name="python -m loadtests plan")
