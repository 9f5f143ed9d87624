"""The command line: one file a command, errors as one line with a remedy, exit codes as documented."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from stream.errors import CleanplateError

app = typer.Typer(
    name="cleanplate",
    help="A clip in, the same clip without what does not belong in it out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_DEBUG = "--debug"


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"cleanplate {version('cleanplate')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command; `--debug` anywhere shows tracebacks."""


for _name in ("clean", "live", "batch", "explain", "demo", "doctor", "train"):
    app.command(name=_name)(getattr(import_module(f"stream.commands.{_name}"), _name))
for _name in ("layers", "compose"):
    app.command(name=_name)(getattr(import_module("stream.commands.layers"), _name))
for _name in ("engines", "weights"):
    app.add_typer(import_module(f"stream.commands.{_name}").app, name=_name)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = _DEBUG in given
    given = [argument for argument in given if argument != _DEBUG]
    try:
        code = app(given, standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        if debug:
            raise
        _show(CleanplateError("interrupted", hint="nothing was written under the output's name"))
        code = 130
    except Exception as error:
        if debug:
            raise
        code = _report(error)
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: Exception) -> int:
    """Print any error as one line and return its exit code."""
    if isinstance(error, CleanplateError):
        _show(error)
        return error.exit_code
    if hasattr(error, "format_message"):  # what the option parser raises
        _show(CleanplateError(error.format_message().rstrip("."), hint="see --help"))
        return 2
    code = getattr(error, "exit_code", None)  # errors of engines, models and configs, which cannot know ours
    if code is None:
        code = {"ConfigError": 2, "EngineError": 5, "EngineUnavailable": 5, "WeightsError": 5}.get(
            type(error).__name__, 1
        )
    first = (str(error) or type(error).__name__).splitlines()[0]
    what = first if code != 1 else f"unexpected {type(error).__name__}: {first}"
    hint = getattr(error, "hint", "") or ("run again with --debug for the traceback" if code == 1 else "")
    _show(CleanplateError(what, hint=hint))
    return int(code)


def _show(error: CleanplateError) -> None:
    print(f"error: {error}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
