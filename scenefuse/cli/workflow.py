"""`scenefuse workflow`: what an operator's workflow file asks for."""

from __future__ import annotations

from pathlib import Path

import click

from scenefuse.cli.batch import show_batch
from scenefuse.cli.options import OwnPath
from scenefuse.cli.output import emit_json, json_option
from scenefuse.cli.progress import ProgressBar
from scenefuse.errors import WorkError


@click.group(name="workflow")
def command() -> None:
    """Run workflow files: TOML that says where scenes are, which belong together, how they are fused, where to."""


@command.command(name="run")
@click.argument("file", type=OwnPath(dir_okay=False, path_type=Path))
@json_option
def run(file: Path, *, as_json: bool) -> int:
    """Do one pass over FILE: search, pair, fuse, publish; what is done is skipped.

    Exits with 0 when all that was due is done, 3 when some pairs failed (the rest is done and published).
    """
    from scenefuse.workflow.one_pass import run_pass
    from scenefuse.workflow.specification import read_workflow

    workflow = read_workflow(file)
    with ProgressBar() as progress:
        report = run_pass(workflow, observer=progress)
    if as_json:
        emit_json(report.facts())
    else:
        show_batch(report.batch)
        for entry in report.published:
            click.echo(f"{entry.outcome:<9} {entry.href}")
    return WorkError.exit_code if report.batch.failures else 0
