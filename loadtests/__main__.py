"""`python -m loadtests`."""

from loadtests.cli import app

if __name__ == "__main__":
    app(prog_name="python -m loadtests")
