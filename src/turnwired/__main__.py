"""`python -m turnwired` is `turnwire`."""

from turnwired.cli.main import app

if __name__ == "__main__":
    app(prog_name="turnwire")
