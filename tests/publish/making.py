"""Small products of several pairs, and of corrected inputs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from scenefuse.archive.scene import Scene, ScenePair
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.commit import commit, finish_data
from scenefuse.product.identity import ProductInput, item_id, product_identity
from scenefuse.product.model_item import build_method_item, write_model_item
from scenefuse.product.provenance import read_run
from scenefuse.product.succession import succeed
from scenefuse.publish.asset_root import AssetRoot
from scenefuse.publish.destination import Published
from scenefuse.publish.static import StaticCatalogue
from tests.product.making import (
    GRID,
    INPUTS,
    METHOD,
    MODEL_CARD,
    PAIR,
    PROVENANCE,
    RUN,
    SPEC,
    random_scene,
    write_scene,
)


def published(folders: Sequence[Path | Place], root: Path | Place, *, asset_root: str | None = None) -> list[Published]:
    """What became of the products in a static catalogue."""
    served = None if asset_root is None else AssetRoot(url=asset_root)
    catalogue = StaticCatalogue(root=place_at(root), asset_root=served)
    return catalogue.publish([place_at(folder) for folder in folders])


def make_product(
    out: Place | Path, number: int = 1, *, version: str = "a", hs_id: str | None = None, cog: bool = True
) -> Place:
    """Folder of a product of 60 x 60 px and 12 bands, of the pair of this number: a place and a day of its own.

    version: of its HSI's files; a later one succeeds those before.
    """
    hs, ms = _scene(PAIR.hs, hs_id or f"HS{number}", number), _scene(PAIR.ms, f"MS{number}", number)
    inputs: tuple[ProductInput, ...] = tuple(
        replace(file, scene_id=scene.id, checksum=f"{file.checksum}-{version}")
        for file, scene in zip(INPUTS, (hs, ms), strict=True)
    )
    identity = product_identity(inputs, METHOD, PROVENANCE.options)
    west, north = 400_000.0 + 10_000 * number, 5_800_000.0 + 5_000 * number
    grid = replace(GRID, coarse_shape=(20, 20), fine_transform=(10.0, 0.0, west, 0.0, -10.0, north))
    name = item_id(hs.id, ms.id, METHOD.name, identity)
    spec = replace(SPEC, item_id=name, grid=grid)
    folder = place_at(out) / name
    folder.make()
    fused, quality = random_scene(spec, seed=number)
    write_scene(folder, fused, quality, spec=spec)
    finish_data(folder, spec, cog=cog)
    write_model_item(folder, build_method_item(MODEL_CARD))
    commit(
        folder,
        spec,
        pair=ScenePair(hs=hs, ms=ms, gap_hours=2.0),
        provenance=replace(PROVENANCE, item_id=name, identity=identity, inputs=inputs),
        run=replace(RUN, hrefs={"hsi": hs.href, "msi": ms.href}),
    )
    succeed(folder, dict(read_run(folder).hrefs))
    return folder


def _scene(scene: Scene, scene_id: str, number: int) -> Scene:
    assert scene.acquired is not None
    return replace(
        scene,
        id=scene_id,
        href=f"https://a.example/{scene_id}.json?sig=secret",
        acquired=scene.acquired + timedelta(days=number),
        properties={"platform": f"satellite-{number}", "instruments": [f"sensor-{number}"]},
    )


def copy_of(product: Place, out: Path) -> Place:
    """The product in another output."""
    return place_at(Path(shutil.copytree(product.local_path(), out / product.name)))
