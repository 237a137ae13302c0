"""The commands, put together. Nothing here imports torch, timm, sklearn or h5py."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

import rratag
from rratag import config
from rratag.cli import bench, cache, compare, demo, doctor, evaluate, explain, extract, labels, predict, report, train
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
    context.default_map = _file_defaults(_subcommands(context.command))


def _file_defaults(commands: dict[str, Any]) -> dict[str, Any]:
    """Defaults from ``rratag.toml`` in the working folder: keys for every command, or a table per command.

    Keys are the options' names; flags and RRATAG_* variables stand above them.
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
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from error
    shared = {name.replace("-", "_"): value for name, value in data.items() if not isinstance(value, dict)}
    tables = {name: value for name, value in data.items() if isinstance(value, dict)}
    everything = {name for command in commands.values() for name in _options(command)}
    for name in [*tables, *shared]:
        if name in tables and name not in commands:
            raise UsageError(f"{path}: unknown table [{name}]; commands are {', '.join(commands)}")
        if name in shared and name not in everything:
            raise UsageError(f"{path}: unknown option {name!r}; see rratag COMMAND --help")
    defaults = {}
    for name, command in commands.items():
        own = {key.replace("-", "_"): value for key, value in tables.get(name, {}).items()}
        if unknown := own.keys() - _options(command):
            raise UsageError(f"{path}: [{name}] has no option {sorted(unknown)[0]!r}; see rratag {name} --help")
        defaults[name] = _defaults(command, {**shared, **own})
    return defaults


def _subcommands(command: Any) -> dict[str, Any]:
    """Commands of a group (``cache``) by name; none of a plain command."""
    return getattr(command, "commands", {})


def _options(command: Any) -> dict[str, str]:
    """What click calls each option of a command, or of all commands of a group, by the option's name."""
    found = {
        option.removeprefix("--").replace("-", "_"): str(parameter.name)
        for parameter in command.params
        if parameter.param_type_name == "option"
        for option in parameter.opts
        if option.startswith("--")
    }
    for inner in _subcommands(command).values():
        found |= _options(inner)
    return {name: parameter for name, parameter in found.items() if name != "help"}


def _defaults(command: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Those of `values` that a command has, as click wants them; by command for a group."""
    if inner := _subcommands(command):
        return {name: _defaults(one, values) for name, one in inner.items()}
    several = {parameter.name for parameter in command.params if getattr(parameter, "multiple", False)}
    return {
        parameter: [values[name]] if parameter in several and isinstance(values[name], str) else values[name]
        for name, parameter in _options(command).items()
        if name in values
    }


app.command("extract")(one_line_errors(extract.extract))
app.command("labels")(one_line_errors(labels.labels))
app.command("train")(one_line_errors(train.train))
app.command("predict")(one_line_errors(predict.predict))
app.command("evaluate")(one_line_errors(evaluate.evaluate))
app.command("explain")(one_line_errors(explain.explain))
app.command("report")(one_line_errors(report.report))
app.command("compare")(one_line_errors(compare.compare))
app.add_typer(cache.app, name="cache")
app.command("demo")(one_line_errors(demo.demo))
app.command("bench")(one_line_errors(bench.bench))
app.command("doctor")(one_line_errors(doctor.doctor))
