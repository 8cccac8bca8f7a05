"""A network fine-tuned on the pair that it fuses: nearer to both inputs, kept with the product, replayed with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pystac
import pytest
import torch
from safetensors.torch import load_file

from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.errors import MismatchError, UsageError
from scenefuse.models.weights import read_card
from scenefuse.pipeline.evaluate import training_overlap_notes
from scenefuse.pipeline.fuse import fuse
from scenefuse.pipeline.replay import replay
from scenefuse.pipeline.train import TrainConfig, train
from scenefuse.place.location import place_at
from scenefuse.product.model_item import digest_name
from scenefuse.product.verify import verify
from scenefuse.training.recipe import Recipe
from tests.pipeline.making import PairFiles, write_pair

STEPS = 12
COURSE = TrainConfig(
    model="aelf-t",
    recipe=Recipe(iterations=3, patch_px=8, batch=1, lr=1e-3, score_every=3),
    options={"width": 8, "step": 8},
    device="cpu",
    inputs=RunConfig(register=False),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFiles:
    return write_pair(tmp_path_factory.mktemp("pair"), ratio=4, coarse_shape=(48, 48), bands=(6, 3))


@pytest.fixture(scope="module")
def config(pair: PairFiles, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    weights = train([pair.both], out=tmp_path_factory.mktemp("weights"), config=COURSE).weights
    return RunConfig(
        model="aelf-t", weights=str(weights), register=False, core_px=64, format=("zarr",), precision="fp32"
    )


@pytest.mark.slow
def test_a_network_comes_nearer_to_both_inputs_and_stays_with_the_product(
    pair: PairFiles, config: RunConfig, own_shelf: Path, tmp_path: Path
) -> None:
    plain = fuse(*pair.both, out=tmp_path, config=config, lane=InProcessLane())
    adapted = fuse(*pair.both, out=tmp_path, config=replace(config, adapt=STEPS), lane=InProcessLane())
    assert adapted.folder != plain.folder
    card = read_card(adapted.folder / "weights.safetensors")
    base = read_card(Path(str(config.weights)))
    assert card.training["adapted_from"] == base.sha256
    assert card.training["float16_cost_db"] < 0.01
    tensors = load_file(adapted.folder / "weights.safetensors").values()
    assert {tensor.dtype for tensor in tensors} == {torch.float16}
    assert base.halo_px is not None
    assert card.halo_px is None, "measured with other weights"
    curve = (own_shelf / ".adapted").glob("*/weights.csv")
    rows = [line.split(",") for line in next(curve).read_text().splitlines()]
    scores = [float(row[rows[0].index("consistency_db")]) for row in rows[1:]]
    assert scores[-1] > scores[0]
    item = json.loads(adapted.item.read_text())
    assert item["assets"]["weights"]["file:checksum"] == f"1220{card.sha256}"
    provenance = json.loads((adapted.folder / "provenance.json").read_text())
    assert provenance["entity"]["scenefuse:method"]["scenefuse:weights_sha256"] == card.sha256
    assert not verify(adapted.folder).mismatches
    (own,), (shelf,) = (pystac.Item.from_file(str(made.item)).get_derived_from() for made in (adapted, plain))
    assert Path(own.assets["weights"].get_absolute_href() or "").samefile(adapted.folder / "weights.safetensors")
    assert own.assets["weights"].extra_fields["file:checksum"] == f"1220{card.sha256}"
    assert own.properties["scenefuse:training"]["adapted_from"] == card.training["adapted_from"]
    assert shelf.assets["weights"].extra_fields["file:checksum"] == f"1220{card.training['adapted_from']}"
    assert shelf.assets["weights"].get_absolute_href() == digest_name(card.training["adapted_from"])
    assert str(own_shelf) not in (plain.folder / "model.json").read_text(), "other machines keep weights elsewhere"


@pytest.mark.slow
def test_the_same_call_finds_the_product_and_replay_needs_nothing_but_it(
    pair: PairFiles, config: RunConfig, own_shelf: Path, tmp_path: Path
) -> None:
    steps = replace(config, adapt=STEPS)
    first = fuse(*pair.both, out=tmp_path, config=steps, lane=InProcessLane())
    assert fuse(*pair.both, out=tmp_path, config=steps, lane=InProcessLane()).status == "found"
    shutil.rmtree(own_shelf / ".adapted")
    report = replay(first.folder, every_tile=True)
    assert report.ok
    assert report.differing_fraction == 0
    (first.folder / "weights.json").write_text("[]")
    with pytest.raises(MismatchError, match=r"weights\.json is not a card .* the pair again"):
        training_overlap_notes(place_at(first.folder), str(pair.ms))


def test_a_method_without_weights_has_nothing_to_adapt(pair: PairFiles, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it has no weights to fine-tune"):
        fuse(*pair.both, out=tmp_path, config=RunConfig(model="gsa", register=False, adapt=5))
    assert not list(tmp_path.iterdir())
