"""Names of what lies in a product's folder, and in the output around it. `<item id>.json` is the one name not here."""

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
"""The picture for people."""
STATE = "state.safetensors"
"""The frozen scene state."""
WEIGHTS = "weights.safetensors"
"""The weights of a network that was adapted to the pair."""
WEIGHTS_CARD = "weights.json"
"""What those weights come from."""
MODEL = "model.json"
"""The method as a STAC item: of a network its MLM item."""
PROVENANCE = "provenance.json"
"""What the numbers depend on."""
RUN = "run.json"
"""Times, host and measurements of the run."""
REPORT = "report.html"
"""The report for people; a view of the product, made after it, that may be made again."""

LEDGER = "ledger.jsonl"
"""Finished tiles, while a run is under way and after it."""
LEASE = ".lease"
"""Who works in the folder now."""

CATALOG = "catalog.json"
"""The output's STAC catalogue."""
COLLECTION = "collection.json"
"""The output's collection, which links the products' items."""
FAILURES = "failures.jsonl"
"""One JSON record per pair that failed under the output and has not succeeded since."""

PRODUCT_FILES = frozenset(
    {STORE, MANIFEST, COG, QUALITY, QUICKLOOK, STATE, WEIGHTS, WEIGHTS_CARD, MODEL, PROVENANCE, RUN, REPORT}
)
"""What belongs to a finished product, besides `<item id>.json`."""
