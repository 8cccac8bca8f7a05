"""`scenefuse sensors`: list the instruments known by name."""

from __future__ import annotations

import dataclasses

import click

from scenefuse.cli.output import emit_json, json_option, print_table
from scenefuse.sensors.sensor import sensors


@click.command(name="sensors")
@json_option
def command(*, as_json: bool) -> None:
    """List the instruments whose scale, no-data value and response are known where metadata lacks them."""
    cards = sensors()
    if as_json:
        emit_json({"sensors": [dataclasses.asdict(card) for card in cards]})
        return
    rows = []
    for card in cards:
        waves = [band.wavelength_nm for band in card.bands if band.wavelength_nm is not None]
        gsds = sorted({band.gsd_m for band in card.bands if band.gsd_m is not None})
        span = f"{min(waves):.0f}-{max(waves):.0f}" if waves else None
        rows.append((card.name, card.role, len(card.bands), span, "/".join(f"{gsd:g}" for gsd in gsds)))
    print_table("Sensors", ("name", "role", "bands", "range (nm)", "GSD (m)"), rows)
