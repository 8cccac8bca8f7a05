"""`scenefuse pair`: list which scenes form pairs, and why others do not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from scenefuse.cli.completion import HREF
from scenefuse.cli.options import allow_host_option, bounds_of, pair_options, pair_rule, pair_search_options
from scenefuse.cli.output import emit_json, json_option, note_skipped, print_table
from scenefuse.place.href import redact
from scenefuse.words import counted


@click.command(name="pair")
@click.argument("sources", nargs=-1, required=True, type=HREF, metavar="SOURCE...")
@allow_host_option
@pair_options
@pair_search_options
@json_option
def command(sources: tuple[str, ...], allow_host: tuple[str, ...], *, as_json: bool, **options: Any) -> None:
    """List pairs of an HSI and an MSI that show the same ground at about the same time.

    HSI and MSI may come from different SOURCEs. Every unpaired scene is listed with the reason.
    """
    from scenefuse.archive.pair_search import find_in_archive, unpaired_record

    bounds, rule = bounds_of(options), pair_rule(options)
    pairing, skipped = find_in_archive(sources, rule, bounds=bounds, allow_hosts=allow_host)
    if as_json:
        pairs = [
            {
                "hs": pair.hs.id,
                "ms": pair.ms.id,
                "hs_href": redact(pair.hs.href),
                "ms_href": redact(pair.ms.href),
                "overlap_fraction": pair.overlap_fraction,
                "gap_hours": pair.gap_hours,
            }
            for pair in pairing.pairs
        ]
        emit_json(
            {
                "pairs": pairs,
                "unpaired": [unpaired_record(entry) for entry in pairing.unpaired],
                "skipped_items": [asdict(entry) for entry in skipped],
            }
        )
        return
    rows = [(pair.hs.id, pair.ms.id, pair.overlap_fraction, pair.gap_hours) for pair in pairing.pairs]
    print_table(counted(len(rows), "pair"), ("HSI", "MSI", "overlap", "gap (h)"), rows)
    if pairing.unpaired:
        left = [(entry.scene.id, entry.scene.collection, entry.reason) for entry in pairing.unpaired]
        print_table(f"{counted(len(left), 'scene')} in no pair", ("scene", "collection", "reason"), left)
    note_skipped(skipped)
