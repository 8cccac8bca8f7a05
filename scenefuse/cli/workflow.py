"""`scenefuse workflow`: run an operator's workflow file once, on schedule, or over a past range."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scenefuse.archive.bounds import Bounds, parse_time
from scenefuse.cli.batch import show_batch
from scenefuse.cli.log import counts_text, log_json_option, log_line, moment_text, open_log
from scenefuse.cli.options import OwnPath
from scenefuse.cli.output import emit_json, json_option, print_table
from scenefuse.cli.stopping import stopping_in_order
from scenefuse.errors import SceneFuseError, WorkError
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.pipeline.failures import PairFailure
    from scenefuse.workflow.backfill import BackfillReport, StepReport
    from scenefuse.workflow.one_pass import PassReport
    from scenefuse.workflow.pass_record import PassRecord
    from scenefuse.workflow.passes import Passes
    from scenefuse.workflow.status import Status

_FILE = OwnPath(dir_okay=False, path_type=Path)
_REASONS = 5
"""Reasons listed by a status without any pair; `scenefuse pair` lists those of every scene."""


@click.group(name="workflow")
def command() -> None:
    """Run workflow files: TOML that says where scenes are, which belong together, how to fuse them, and where to.

    Copy workflows/nightly.toml or backfill.toml to start; workflows/deploy/ has files for systemd and Kubernetes.
    """


@command.command(name="run", short_help="Run one pass: search, pair, fuse, publish.")
@click.argument("file", type=_FILE)
@log_json_option
@json_option
def run(file: Path, *, log_json: bool, as_json: bool) -> int:
    """Do one pass over FILE: search, pair, fuse, publish, skipping what is done.

    Exits with 0 if all that was due is done, with 3 if some pairs failed, are in progress elsewhere, or could not be
    published (the rest is done and published).
    """
    from scenefuse.workflow.specification import read_workflow

    workflow = read_workflow(file)
    from scenefuse.workflow.one_pass import run_pass  # takes seconds, so a wrong file is refused first

    now = datetime.now(UTC)
    if log_json:
        bounds = workflow.source.bounds(now)
        log_line("pass-began", level="info", workflow=workflow.name, since=bounds.since, until=bounds.until)
    with stopping_in_order(as_json=log_json), open_log(as_json=log_json, names_failed=as_json) as log:
        report = run_pass(workflow, now=now, observer=log)
    if log_json:
        log_line("pass-ended", level="info" if report.whole else "warning", workflow=report.name, **report.counts())
    if as_json:
        emit_json(report.facts())
    elif not log_json:
        show_batch(report.batch)
        _show_published(report)
    return report.exit_code


@command.command(name="serve", short_help="Run passes on schedule, until stopped.")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@log_json_option
def serve(files: tuple[Path, ...], *, log_json: bool) -> None:
    """Run passes over each FILE whenever its [schedule] says, until the process is stopped.

    Passes run one at a time; start one process per FILE to run them in parallel. Missed passes (the machine was asleep,
    or the previous pass took too long) are made up for by one. A failed pass does not stop the service: it is logged,
    retried, and shown by `scenefuse workflow status`. Files are read once: restart the service when they change.

    The first SIGTERM or SIGINT stops in order and keeps what is finished (exit code 130); the second stops at once.
    The same command resumes, even after a kill.
    """
    from scenefuse.workflow.specification import read_workflow

    workflows = [read_workflow(file) for file in files]
    from scenefuse.workflow.serve import serve as serve_all  # takes seconds, so a wrong file is refused first

    with stopping_in_order(as_json=log_json), open_log(as_json=log_json, names_failed=True) as log:
        serve_all(workflows, observer=log)


@command.command(name="backfill", short_help="Run passes over a past range, step by step.")
@click.argument("file", type=_FILE)
@click.option("--since", required=True, metavar="TIME", help="First day or time of the range, ISO 8601.")
@click.option("--until", required=True, metavar="TIME", help="Last day or time of the range, ISO 8601.")
@click.option("--step", default="1mo", show_default=True, help="Length of a step: 1mo, 7d, 12h.")
@click.option("--newest-first", is_flag=True, help="Start with the last step of the range.")
@log_json_option
@json_option
def backfill(
    file: Path, since: str, until: str, step: str, *, newest_first: bool, log_json: bool, as_json: bool
) -> int:
    """Run the passes of FILE over a past range, step by step. --since and --until replace those of FILE.

    A pair belongs to the step in which its HSI was acquired. What is done is skipped, so the same command continues
    wherever it was stopped. Exits with 3 if some pairs or steps failed; the rest is done.
    """
    from scenefuse.workflow.span import cut, parse_step
    from scenefuse.workflow.specification import read_workflow

    workflow = read_workflow(file)
    bounds = Bounds(since=parse_time("--since", since), until=parse_time("--until", until, day_ends=True))
    parts = list(cut(bounds.since or datetime.now(UTC), bounds.until or datetime.now(UTC), parse_step("--step", step)))
    from scenefuse.workflow.backfill import backfill as do_steps  # takes seconds, so a wrong file is refused first

    if newest_first:
        parts.reverse()
    with stopping_in_order(as_json=log_json), open_log(as_json=log_json, names_failed=as_json) as log:
        tell = _log_step if log_json else partial(_show_step, as_json=as_json)
        report = do_steps(workflow, parts, observer=log, told=tell)
    if as_json:
        emit_json(report.facts())
    elif not log_json:
        _show_backfill(report)
    return report.exit_code


@command.command(name="status", short_help="Show what is due, done and failed.")
@click.argument("file", type=_FILE)
@click.option(
    "--max-age",
    metavar="SPAN",
    help="Check only the record of passes; exit with 3 if the last good one is older, e.g. 26h. For monitors.",
)
@json_option
def status(file: Path, max_age: str | None, *, as_json: bool) -> int:
    """Show what of FILE is due, done, published, running and failed, and when its passes ran and will run.

    The archive is searched as a pass would search it; nothing is opened, started or changed. What only opening a scene
    can tell (a remote file that changed without its item saying so, the weights a network would take) is left to the
    pass. Each pass retries a failed pair as long as it is in the window.

    Exits with 3 if the catalogue published to could not be read (the rest is shown), with 4 if the archive could not
    be searched (only passes are shown). Due or failed pairs are shown, and are no error.
    """
    from scenefuse.workflow.span import parse_span
    from scenefuse.workflow.specification import read_workflow

    workflow = read_workflow(file)
    limit = None if max_age is None else parse_span("--max-age", max_age)
    from scenefuse.workflow.passes import look_at_passes

    now = datetime.now(UTC)
    if limit is None:
        from scenefuse.workflow.status import look_at_workflow

        try:
            found = look_at_workflow(workflow, now=now)
        except SceneFuseError:
            if not as_json:
                _show_passes(look_at_passes(workflow, now=now))  # all that is known while the archive is unavailable
            raise
        if as_json:
            emit_json(found.facts())
        else:
            _show_status(found)
        return found.exit_code
    passes = look_at_passes(workflow, now=now)
    age = passes.age(now)
    is_old = age is None or age > limit
    if as_json:
        emit_json({"workflow": workflow.name, "is_old": is_old, "age_s": age and age.total_seconds(), **passes.facts()})
    else:
        heard = "no pass has succeeded yet" if age is None else f"heard of {_ago(age.total_seconds())} ago"
        click.echo(f"{workflow.name}: {heard}{f', longer than {max_age}' if is_old and age is not None else ''}")
        _show_passes(passes)
    return WorkError.exit_code if is_old else 0


def _show_published(report: PassReport) -> None:
    for entry in report.published:
        click.echo(f"{entry.outcome:<9} {entry.href}")
    for lacking in report.unpublished:
        click.echo(f"Not published: {lacking.item_id} ({lacking.kind}): {lacking.cause}")


def _show_step(step: StepReport, *, as_json: bool) -> None:
    """Print how a step ended, on stderr if stdout is reserved for the document."""
    what = f"failed ({step.error['kind']}): {step.error['cause']}" if step.error else counts_text(step.counts)
    click.echo(
        f"Step {step.number}/{step.steps}, {moment_text(step.since)} to {moment_text(step.until)}: {what}", err=as_json
    )


def _log_step(step: StepReport) -> None:
    """Log how a step ended, for programs."""
    facts = {"number": step.number, "steps": step.steps, "since": step.since, "until": step.until}
    log_line("step-ended", level="info" if step.whole else "warning", **facts, **step.counts, **step.error)


def _show_backfill(report: BackfillReport) -> None:
    for step in report.steps:
        for failure in step.failures:
            click.echo(f"Failed: {failure.hs_id} with {failure.ms_id} ({failure.kind}): {failure.cause}")
        for lacking in step.unpublished:
            click.echo(f"Not published: {lacking.item_id} ({lacking.kind}): {lacking.cause}")
    failed = f"; {counted(report.failed_steps, 'step')} failed" if report.failed_steps else ""
    click.echo(f"{counted(len(report.steps), 'step')}, {counts_text(report.counts())}{failed}")


def _show_status(found: Status) -> None:
    from scenefuse.workflow.status import STANDINGS

    ends = [("since", found.bounds.since), ("until", found.bounds.until)]
    window = " ".join(f"{word} {moment_text(end)}" for word, end in ends if end is not None)
    free = "" if found.free_bytes is None else f", {found.free_bytes / 1e9:.1f} GB free"
    click.echo(f"Workflow {found.name}: products in {found.out}{free}")
    counts = [f"{found.count(standing)} {standing}" for standing in STANDINGS]
    if found.published is not None:
        counts.insert(1, f"{found.published} published")
    if found.catalogue_error is not None:
        counts.insert(1, "published not known")
    click.echo(
        f"{f'HSI {window}' if window else 'All times'}: {counted(len(found.pairs), 'pair')}: {', '.join(counts)}"
    )
    if found.unpaired:
        click.echo(f"{counted(len(found.unpaired), 'scene')} in no pair")
    if not found.pairs:  # the reasons reveal, for example, a wrong collection name
        for reason, number in Counter(lone.reason for lone in found.unpaired).most_common(_REASONS):
            click.echo(f"No pair for {counted(number, 'scene')}: {reason}")
    rows = [
        (entry.pair.hs.id, entry.pair.ms.id, entry.standing, _failure_text(entry.failure))
        for entry in found.pairs
        if entry.standing != "done"
    ]
    if rows:
        print_table("Not done", ("hsi", "msi", "standing", "what was wrong"), rows)
    if (error := found.catalogue_error) is not None:
        click.echo(f"What is published is not known ({error['kind']}): {error['cause']}")
    for skipped in found.skipped:
        click.echo(f"Left out {skipped.href}: {skipped.reason}")
    if found.other_failures:
        click.echo(
            f"{counted(len(found.other_failures), 'other pair')} failed under {found.out}: scenefuse refill {found.out}"
        )
    _show_passes(found.passes)


def _failure_text(failure: PairFailure | None) -> str:
    if failure is None:
        return ""
    again = "may pass" if failure.retryable else "will not pass by itself"
    age_s = (datetime.now(UTC) - datetime.fromisoformat(failure.at)).total_seconds() if failure.at else 0.0
    return f"{failure.kind}, {again}, {_ago(age_s)} ago: {failure.cause}"


def _show_passes(passes: Passes) -> None:
    history = passes.history
    if history.last is None:
        click.echo("No pass yet")
    else:
        click.echo(f"Last pass: {_pass_text(history.last, under_way=passes.under_way)}")
        if history.last_good is not None and history.last_good != history.last:
            click.echo(f"Last good pass: {_pass_text(history.last_good, under_way=False)}")
        if history.failed_in_a_row > 1:
            click.echo(f"{history.failed_in_a_row} passes failed in a row")
    if passes.backfill is not None:
        click.echo(f"Last step of a backfill: {_pass_text(passes.backfill, under_way=passes.backfill_under_way)}")
    if passes.schedule is None:
        click.echo("No [schedule]: passes are started by `scenefuse workflow run`")
    else:
        coming = ", ".join(moment_text(moment) for moment in passes.coming)
        click.echo(f"Schedule {passes.schedule}; under `serve` the next passes begin at {coming}")


def _pass_text(record: PassRecord, *, under_way: bool) -> str:
    began = datetime.fromisoformat(record.began)
    begun = f"began {moment_text(began)}"
    if record.ended is None:
        heard = datetime.now(UTC) - datetime.fromisoformat(record.alive or record.began)
        return (
            f"{begun}, under way" if under_way else f"{begun}, killed; last heard of {_ago(heard.total_seconds())} ago"
        )
    took = _ago((datetime.fromisoformat(record.ended) - began).total_seconds())
    cause = f" ({record.error['kind']}): {record.error['cause']}" if record.error else ""
    counts = f": {counts_text(record.counts)}" if record.counts else ""
    return f"{begun}, {record.outcome} after {took}{counts}{cause}"


def _ago(seconds: float) -> str:
    """An elapsed time for people: its largest unit, rounded."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
