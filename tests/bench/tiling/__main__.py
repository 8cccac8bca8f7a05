"""The command of the tiling benchmark."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from tests.bench import tiling
from tests.bench.machine import machine
from tests.bench.tiling.bars import judge
from tests.bench.tiling.report import bar_table, plot, slope_table, slopes, table
from tests.bench.tiling.suite import WORKERS, Entry, among, chosen, huge, known_models, longer, quick, record, run


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=tiling.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two models on a tiny scene: shows that it runs")
    parser.add_argument("--long", action="store_true", help="what takes longer, in place of what is recorded")
    parser.add_argument("--huge", action="store_true", help="ours alone up to 64 Mpx, in place of what is recorded")
    parser.add_argument("--models", nargs="+", choices=known_models(), help="these models only")
    parser.add_argument(
        "--sizes", nargs="+", type=float, help="these sizes in Mpx (2^20 pixels), else 1 or those of the set"
    )
    parser.add_argument("--workers", action="store_true", help="with --models alone: two workers against one")
    parser.add_argument("--rounds", type=int, help="runs of each, else those of the set, or 3")
    parser.add_argument("--json", type=Path, help="where the records go")
    parser.add_argument("--update", action="store_true", help="keep the file's records of other models and sizes")
    parser.add_argument("--plot", type=Path, help="where the picture goes, a PNG")
    parser.add_argument("--work", type=Path, help="folder for scenes and results while it runs, 20 GB free")
    arguments = parser.parse_args()
    sets = {"quick": quick, "long": longer, "huge": huge}
    asked = next((make for name, make in sets.items() if getattr(arguments, name)), None)
    entries: list[Entry]
    if arguments.models and asked is None:
        names = WORKERS if arguments.workers else None
        entries = chosen(arguments.models, arguments.sizes or [1.0], names)
    else:
        entries = among((asked or record)(), arguments.models, arguments.sizes)
    if arguments.rounds is not None:
        entries = [replace(entry, rounds=arguments.rounds) for entry in entries]
    records = kept(arguments.json, entries) if arguments.update else []
    for found in run(entries, arguments.work):
        records.append(found)
        if arguments.json is not None:  # after each, so that a run that is stopped leaves what it has
            _write(arguments.json, records)
    print(table(records), slope_table(slopes(records)), bar_table(judge(records)), sep="\n\n")  # noqa: T201 - a benchmark prints its tables
    if arguments.plot is not None:
        plot(records, arguments.plot)


def kept(path: Path, entries: list[Entry]) -> list[dict[str, object]]:
    """The file's records, without those that the entries will make anew; none where there is no file yet."""
    if not path.exists():
        return []
    again = {
        (entry.model, entry.mpx, lane, name)
        for entry in entries
        for lane, names in (("whole", ("frozen", "plain")), *entry.names.items())
        for name in names
    }
    records: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))["records"]
    place = ("model", "mpx", "lane", "contestant")
    return [record for record in records if tuple(record[key] for key in place) not in again]


def _write(path: Path, records: list[dict[str, object]]) -> None:
    bars = [bar.facts() for bar in judge(records)]
    document = {"machine": machine(), "records": records, "slopes": slopes(records), "bars": bars}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
