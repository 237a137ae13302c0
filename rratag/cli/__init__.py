"""The command line: parse, call, report. One file per command; the only room that prints or owns exit codes."""


def main() -> None:
    """Entry point of the console script ``rratag``."""
    from rratag.cli.app import app

    app(prog_name="rratag")
