"""Names of the files in a product's folder and in the output around it. Only `<item id>.json` is not listed here."""

from __future__ import annotations

STORE = "fused.zarr"
"""The arrays."""
MANIFEST = f"{STORE}.manifest"
"""Size and digest of every file of the store."""
COG = "fused.tif"
"""The reflectance as cloud-optimised GeoTIFF."""
QUALITY = "quality.tif"
"""The quality flags as cloud-optimised GeoTIFF."""
QUICKLOOK = "quicklook.png"
"""A picture for people."""
STATE = "state.safetensors"
"""The frozen scene state."""
WEIGHTS = "weights.safetensors"
"""Weights of a network that was adapted to the pair."""
WEIGHTS_CARD = "weights.json"
"""The card of those weights: where they come from."""
MODEL = "model.json"
"""The method as a STAC item; for a network, its MLM item."""
PROVENANCE = "provenance.json"
"""Everything the numbers depend on."""
RUN = "run.json"
"""Times, host and measurements of the run."""
REPORT = "report.html"
"""The report for people: a view of the finished product that can be made again at any time."""

LEDGER = "ledger.jsonl"
"""Finished tiles; kept after the run."""
LEASE = ".lease"
"""Who is working in the folder now."""

CATALOG = "catalog.json"
"""STAC catalogue of the output."""
COLLECTION = "collection.json"
"""STAC collection of the output, which links the products' items."""
FAILURES = "failures.jsonl"
"""One JSON record for each pair that failed under the output and has not succeeded since."""

PRODUCT_FILES = frozenset(
    {STORE, MANIFEST, COG, QUALITY, QUICKLOOK, STATE, WEIGHTS, WEIGHTS_CARD, MODEL, PROVENANCE, RUN, REPORT}
)
"""Files of a finished product, besides `<item id>.json`."""
