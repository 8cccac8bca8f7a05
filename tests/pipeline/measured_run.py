"""A fusion in a process of its own that tells its peak memory: `python -m tests.pipeline.measured_run HS MS OUT`."""

from __future__ import annotations

import json
import sys

from scenefuse.config import RunConfig
from scenefuse.engine.group import peak_rss_bytes
from scenefuse.pipeline.fuse import fuse


def main(hs: str, ms: str, out: str) -> None:
    config = RunConfig(model="gsa", core_px=512, workers=1, memory_limit="2GiB", format=("zarr", "cog"))
    product = fuse(hs, ms, out=out, config=config)
    run = json.loads((product.folder / "run.json").read_bytes())["facts"]["run"]
    peaks = {"coordinator": peak_rss_bytes(), "worker": run["peak_rss_bytes"]}
    print(json.dumps({"fine_px": run["fine_px"], "peak_rss_bytes": peaks}))  # noqa: T201 - to the test


if __name__ == "__main__":
    main(*sys.argv[1:])
