"""`scenefuse doctor`: check whether this machine can run scenefuse, and with what."""

from __future__ import annotations

import click

from scenefuse.cli.options import PLACE
from scenefuse.cli.output import emit_json, json_option
from scenefuse.engine.finding import Finding
from scenefuse.place.place import Place

MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


@click.command(name="doctor")
@click.option(
    "--out", type=PLACE, default=".", metavar="DST", help="Where to test writing: a folder, or s3://bucket. [.]"
)
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler to check, tcp://host:8786.")
@json_option
def command(out: Place, scheduler: str | None, *, as_json: bool) -> int:
    """Check libraries, devices, memory, disk and, if given, a store and a scheduler.

    Exits with 4 if something that a fusion needs is missing; warnings do not count.
    """
    from scenefuse.engine.checkup import check_machine

    findings = check_machine(out, scheduler=scheduler)
    if as_json:
        emit_json({"findings": [_record(finding) for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{MARKS[finding.verdict]}  {finding.name:<12} {finding.text}")
    return 4 if any(finding.verdict == "failed" for finding in findings) else 0


def _record(finding: Finding) -> dict[str, object]:
    return {"name": finding.name, "verdict": finding.verdict, "text": finding.text, **finding.facts}
