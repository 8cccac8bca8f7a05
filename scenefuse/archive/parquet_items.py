"""STAC items in a stac-geoparquet file, the form in which archives offer all their items at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scenefuse.errors import DataError

MAGIC = b"PAR1"
ITEMS_PER_BATCH = 1000
"""Items held in memory at once."""


def items_of(path: Path) -> Iterator[dict[str, Any]]:
    """The file's items as JSON objects, row by row; DataError if it is no such file or its reader is missing."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
        from stac_geoparquet.arrow import stac_table_to_items
    except ImportError as error:
        raise DataError(
            f"{path} is stac-geoparquet",
            "its reader is not installed",
            "install the extra: pip install 'scenefuse[geoparquet]'",
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            missing = {"id", "geometry", "assets"} - set(file.schema_arrow.names)
            if missing:
                raise DataError(
                    f"{path} has no column {', '.join(sorted(missing))}",
                    "its rows are not STAC items",
                    "write it as stac-geoparquet 1.0 or 1.1",
                )
            batches = pa.RecordBatchReader.from_batches(
                file.schema_arrow, file.iter_batches(batch_size=ITEMS_PER_BATCH)
            )
            yield from stac_table_to_items(batches)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as stac-geoparquet ({type(error).__name__}: {error})",
            "its items cannot be listed",
            "fetch the file again",
        ) from error
