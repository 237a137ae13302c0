"""The commands, put together. Nothing here imports torch, timm, sklearn or h5py."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

import rratag
from rratag import config
from rratag.cli import cache, demo, doctor, evaluate, extract, predict, train
from rratag.cli.console import one_line_errors
from rratag.errors import UsageError

app = typer.Typer(
    name="rratag",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tag videos whose tags differ in small details, offline, with evidence for every tag.",
    epilog="Exit codes: 0 all well, 1 nothing usable or stopped, 2 wrong usage, 3 some videos failed, 130 interrupted.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rratag {rratag.__version__}")
        raise typer.Exit


@app.callback()
@one_line_errors
def _settings(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    context.default_map = _file_defaults()


def _file_defaults() -> dict[str, Any]:
    """Defaults from ``rratag.toml`` in the working folder: keys for every command, or a table per command.

    Flags and RRATAG_* variables stand above it.
    """
    path = config.CONFIG_FILE
    if not path.is_file():
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    known = _option_names()
    shared = {name.replace("-", "_"): value for name, value in data.items() if not isinstance(value, dict)}
    tables = {name: value for name, value in data.items() if isinstance(value, dict)}
    everything = set().union(*known.values())
    for name in [*tables, *shared]:
        if name in tables and name not in known:
            raise UsageError(f"{path}: unknown table [{name}]; commands are {', '.join(known)}")
        if name in shared and name not in everything:
            raise UsageError(f"{path}: unknown option {name!r}; see rratag COMMAND --help")
    defaults = {}
    for command, names in known.items():
        own = {name.replace("-", "_"): value for name, value in tables.get(command, {}).items()}
        if unknown := own.keys() - names:
            raise UsageError(f"{path}: [{command}] has no option {sorted(unknown)[0]!r}; see rratag {command} --help")
        defaults[command] = {name: value for name, value in {**shared, **own}.items() if name in names}
    return defaults


def _option_names() -> dict[str, set[str]]:
    import inspect

    return {
        str(info.name): set(inspect.signature(info.callback).parameters)
        for info in app.registered_commands
        if info.callback is not None
    }


app.command("extract")(one_line_errors(extract.extract))
app.command("train")(one_line_errors(train.train))
app.command("predict")(one_line_errors(predict.predict))
app.command("evaluate")(one_line_errors(evaluate.evaluate))
app.add_typer(cache.app, name="cache")
app.command("demo")(one_line_errors(demo.demo))
app.command("doctor")(one_line_errors(doctor.doctor))
