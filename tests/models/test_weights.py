"""Weights and their card: what is loaded, and what is refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from scenefuse.errors import ModelError
from scenefuse.models.architectures import load_network
from scenefuse.models.ref import ModelRef
from scenefuse.models.weights import load_weights, read_card
from scenefuse.sensors.band import Band
from tests.models.test_network_model import HS_BANDS, saved


@pytest.fixture
def ref(tmp_path: Path) -> ModelRef:
    return saved(tmp_path, "aelf-t", width=8, step=8)


def weights(ref: ModelRef) -> Path:
    assert ref.weights is not None
    return Path(ref.weights)


def test_loaded_weights_are_the_saved_ones(ref: ModelRef) -> None:
    first, second = load_network(ref), load_network(ref)
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.card == second.card


def test_weights_stored_as_float16_load_as_float32(tmp_path: Path) -> None:
    ref = saved(tmp_path, "aelf-t", half=True, width=8, step=8)
    _, tensors = load_weights(ref)
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert {p.dtype for p in load_network(ref).network.parameters()} == {torch.float32}


def test_the_card_makes_the_round_trip(ref: ModelRef) -> None:
    card = read_card(weights(ref))
    assert card.hs_bands == HS_BANDS
    assert card.training["seed"] == 3
    assert card.sha256 == ref.weights_sha256


def test_a_reference_without_weights_is_refused(ref: ModelRef) -> None:
    with pytest.raises(ModelError, match="an untrained network never makes a product"):
        load_network(replace(ref, weights=None))


def test_missing_weights_are_refused(ref: ModelRef) -> None:
    weights(ref).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_network(ref)


def test_weights_without_a_card_are_refused(ref: ModelRef) -> None:
    weights(ref).with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="the card of the weights"):
        load_network(ref)


def test_truncated_weights_are_refused(ref: ModelRef) -> None:
    weights(ref).write_bytes(weights(ref).read_bytes()[:-7])
    with pytest.raises(ModelError, match="truncated or was changed"):
        load_network(ref)


def test_weights_with_one_changed_bit_are_refused(ref: ModelRef) -> None:
    blob = bytearray(weights(ref).read_bytes())
    blob[-1] ^= 1
    weights(ref).write_bytes(blob)
    with pytest.raises(ModelError, match="sha256"):
        load_network(ref)


def test_weights_other_than_the_reference_names_are_refused(ref: ModelRef) -> None:
    with pytest.raises(ModelError, match="the reference says 0000"):
        load_network(replace(ref, weights_sha256="0000"))


def test_a_pickle_is_refused_unread(ref: ModelRef) -> None:
    weights(ref).write_bytes(pickle.dumps({"weight": [1.0]}))
    with pytest.raises(ModelError, match="is a pickle"):
        load_network(ref)


def test_a_torch_archive_is_refused_unread(ref: ModelRef) -> None:
    torch.save({"weight": torch.ones(1)}, weights(ref))
    with pytest.raises(ModelError, match="is a pickle"):
        load_network(ref)


def test_a_torch_archive_without_a_card_is_refused_as_what_it_is(ref: ModelRef, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({"weight": torch.ones(1)}, path)
    with pytest.raises(ModelError, match=r"theirs\.pth is a pickle"):
        read_card(path)
    with pytest.raises(ModelError, match=r"theirs\.pth is a pickle"):
        load_network(replace(ref, weights=str(path), weights_sha256=None))


def test_weights_whose_file_begins_with_the_byte_of_a_pickle_are_read(ref: ModelRef) -> None:
    """A safetensors file begins with the length of its header: one in 32 has 0x80 as its first byte."""
    tensors = load(weights(ref).read_bytes())
    header_bytes = int.from_bytes(save(tensors, metadata={"padding": ""})[:8], "little")
    blob = save(tensors, metadata={"padding": "x" * ((0x80 - header_bytes) % 256)})
    assert blob.startswith(b"\x80")
    weights(ref).write_bytes(blob)
    path = weights(ref).with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": sha256(blob).hexdigest()}))
    load_network(replace(ref, weights_sha256=None))


def test_what_is_no_safetensors_file_is_refused(ref: ModelRef) -> None:
    blob = b"nothing of the kind"
    weights(ref).write_bytes(blob)
    path = weights(ref).with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": sha256(blob).hexdigest()}))
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load_network(replace(ref, weights_sha256=None))


def test_weights_for_another_ratio_are_refused(ref: ModelRef) -> None:
    with pytest.raises(ModelError, match="has ratio 4, the pair needs 3"):
        load_network(replace(ref, ratio=3))


def test_weights_for_another_number_of_bands_are_refused(ref: ModelRef) -> None:
    with pytest.raises(ModelError, match="has number of HSI bands 6, the pair needs 5"):
        load_network(replace(ref, hs_bands=HS_BANDS[:5]))


def test_weights_for_other_wavelengths_are_refused(ref: ModelRef) -> None:
    moved = (*HS_BANDS[:5], Band(name="h5", wavelength_nm=712.0))
    with pytest.raises(ModelError, match=r"trained with a band at 700.0 nm, the pair's h5 is at 712.0 nm"):
        load_network(replace(ref, hs_bands=moved))


def test_wavelengths_that_drifted_by_less_than_half_a_band_are_accepted(ref: ModelRef) -> None:
    moved = tuple(replace(band, wavelength_nm=(band.wavelength_nm or 0) + 3.9) for band in HS_BANDS)
    assert load_network(replace(ref, hs_bands=moved)).card.hs_bands == moved


def test_weights_for_another_architecture_are_refused(ref: ModelRef) -> None:
    with pytest.raises(ModelError, match="has architecture aelf-t, the pair needs aelf"):
        load_network(replace(ref, name="aelf"))


def test_weights_for_other_options_are_refused(ref: ModelRef) -> None:
    path = weights(ref).with_suffix(".json")
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "options": {"width": 12, "step": 12}}))
    with pytest.raises(ModelError, match="tensors, the first is"):
        load_network(ref)


@pytest.mark.parametrize("change", [{"colour": "blue"}, {"halo_px": -1}, {"effective_px": "8"}])
def test_a_card_with_an_unknown_key_or_value_is_refused(ref: ModelRef, change: dict[str, Any]) -> None:
    path = weights(ref).with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match="is not a card of weights"):
        load_network(ref)
