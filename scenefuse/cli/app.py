"""The `scenefuse` command: its subcommands, and how errors become messages and exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import select
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from scenefuse import __version__
from scenefuse.cli.log import log_line
from scenefuse.cli.output import discard, emit_json, error_record, note
from scenefuse.cli.stopping import InterruptedRunError, interruption
from scenefuse.errors import SceneFuseError, UsageError, WorkError
from scenefuse.failure import FORBIDDEN, FULL

COMMANDS = {
    "demo": "Simulate a small archive, fuse its pairs, score the results",
    "search": "List the scenes of catalogues and STAC APIs",
    "pair": "List which scenes form pairs, and why others do not",
    "plan": "Show what a fusion would do and cost, without running it",
    "fuse": "Fuse one pair of scenes",
    "batch": "Find and fuse all pairs of an archive",
    "train": "Train a network on pairs of scenes",
    "evaluate": "Score products or methods, with or without a reference",
    "verify": "Check products' checksums and schemas",
    "report": "Write a product's report: one page of HTML",
    "replay": "Recompute a product's tiles from its provenance and compare",
    "refill": "Retry what failed under an output",
    "clean": "Remove what abandoned runs left under an output",
    "publish": "Publish products to a STAC catalogue or API",
    "workflow": "Run workflow files: once, on schedule, over a past range",
    "models": "List fusion methods and weights",
    "sensors": "List known instruments",
    "doctor": "Check that this machine can run scenefuse",
}
"""Name and summary of each command, in the order of a typical workflow; each lives in scenefuse.cli.<name>."""


SYSTEM_SAYS_NO = FORBIDDEN | FULL | {errno.ENOTDIR}
"""System errors that explain themselves: no permission, no space, a file where a folder should be."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when it is called: `--help` needs no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        """Names of all commands, in the order of a typical workflow."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's signature
        """The command of that name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"scenefuse.cli.{cmd_name}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Matching commands and options, without importing the commands."""
        commands = [CompletionItem(name, help=line) for name, line in COMMANDS.items() if name.startswith(incomplete)]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and return its exit code; a reader of stdout that goes away (`| head`) is no error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            if not _reader_is_gone():
                raise
            discard(sys.stdout)  # otherwise the exit would flush it again
            return 0

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 # click's
        """Write the help's list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="scenefuse")
def app() -> None:
    """Fuse hyperspectral and multispectral scenes into products with all bands on the fine grid.

    Exit codes: 0 done; 1 a bug; 2 usage error; 3 work failed after it began; 4 refused before work;
    5 verify or replay found a mismatch; 130 interrupted, the same call resumes.
    """


def main() -> NoReturn:
    """Run the command line; never returns."""
    _keep_standard_descriptors()
    signal.signal(signal.SIGTERM, _as_interrupt)
    as_json = "--json" in sys.argv[1:]
    try:
        code = app(standalone_mode=False)
    except SceneFuseError as error:
        sys.exit(_report(error, as_json=as_json))
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_report(interruption(), as_json=as_json))
    except click.ClickException as error:
        error.show()
        sys.exit(_describe(_misuse(error), as_json=as_json))
    except OSError as error:
        if error.errno not in SYSTEM_SAYS_NO:
            raise
        refusal = WorkError(
            f"{error.filename or 'A file'}: {error.strerror}",
            "the command stopped there",
            "Remove the obstacle, or choose another place, and run the same command again",
        )
        sys.exit(_report(refusal, as_json=as_json))
    except Exception as error:
        bug = SceneFuseError(f"{type(error).__name__}: {error}", "the command stopped", "Report it with the traceback")
        _describe(bug, as_json=as_json)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _keep_standard_descriptors() -> None:
    """Open descriptors 0 to 2 on the null device if the caller closed them, for this process and its workers.

    Otherwise the next file opened, for example a ledger, would get one of them and receive what a library prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
            os.set_inheritable(opened, True)


def _reader_is_gone() -> bool:
    """True if stdout is a pipe that nobody reads any more."""
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), 0)
    return any(state & select.POLLERR for _, state in stdout.poll(0))


def _as_interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _misuse(error: click.ClickException) -> UsageError:
    """Turn click's complaint about the call into one of our errors."""
    context = getattr(error, "ctx", None)
    command = "scenefuse" if context is None else context.command_path
    return UsageError(error.format_message().rstrip("."), "nothing was done", f"See {command} --help")


def _report(error: SceneFuseError, *, as_json: bool) -> int:
    """Print the error for people and, if requested, for programs; return its exit code."""
    if "--log-json" in sys.argv[1:]:
        level = "info" if isinstance(error, InterruptedRunError) else "error"
        log_line("end", level=level, kind=error.kind, cause=str(error), exit_code=error.exit_code)
    else:
        note(f"Error: {error}")
    return _describe(error, as_json=as_json)


def _describe(error: SceneFuseError, *, as_json: bool) -> int:
    """Print the error for programs if requested; return its exit code."""
    if as_json:
        emit_json(error_record(error))
    return error.exit_code
