"""Weights of networks: a safetensors file with a JSON card beside it that describes them. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from scenefuse.errors import ModelError
from scenefuse.models.ref import ModelRef
from scenefuse.place.durable import write_durably
from scenefuse.sensors.band import Band

WAVELENGTH_TOLERANCE_NM = 5.0
"""Allowed shift of a band's centre, or half the band's width if that is more: spectrometers drift between scenes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsCard:
    """What a weights file contains, where it comes from, and what it may be used for."""

    architecture: str
    """Name in ARCHITECTURES: `aelf-t`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the architecture that differ from its defaults."""
    hs_bands: tuple[Band, ...]
    """Bands of the coarse input and of the result."""
    ms_bands: tuple[Band, ...]
    """Bands of the fine input."""
    ratio: int
    """Coarse pixel size / fine pixel size."""
    training: Mapping[str, Any]
    """Provenance: data, protocol, seed, score."""
    licence: str
    """Licence of the weights, an SPDX expression."""
    sha256: str = ""
    """SHA-256 of the safetensors file, hexadecimal."""
    halo_px: int | None = None
    """Halo measured with these weights; None for the architecture's own."""
    effective_px: int | None = None
    """Effective support measured with these weights; None for the architecture's own."""

    def __post_init__(self) -> None:
        for name in ("halo_px", "effective_px"):
            px = getattr(self, name)
            if px is not None and (type(px) is not int or px < 0):
                raise ValueError(f"{name} {px!r} is no number of pixels")


def unique_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; a shared tensor appears only under its first name."""
    return {name: tensor.detach() for name, tensor in (*network.named_parameters(), *network.named_buffers())}


def save_weights(path: Path, network: nn.Module, card: WeightsCard, *, half: bool = False) -> WeightsCard:
    """Write `path` and its card, `path` with suffix .json; returns the card with its sha256.

    half: store floats as float16. The weights are written last, in one piece: wherever they exist, so does their card.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in unique_tensors(network).items()}
    if half:
        tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    blob = save(tensors)
    card = replace(card, sha256=sha256(blob).hexdigest())
    write_durably(path.with_suffix(".json"), (json.dumps(asdict(card), indent=2) + "\n").encode())
    write_durably(path, blob)
    return card


def load_weights(ref: ModelRef) -> tuple[WeightsCard, dict[str, Tensor]]:
    """Card and float32 tensors of the weights a reference names, after every check that needs no network."""
    if ref.weights is None:
        raise ModelError(
            f"{ref.name} has no weights",
            "an untrained network never makes a product",
            "pass --weights FILE.safetensors, or train some with scenefuse train",
        )
    path = Path(ref.weights)
    card = read_card(path)
    blob = _read(path, "the weights are")
    digest = sha256(blob).hexdigest()
    wanted = {"its card": card.sha256, "the reference": ref.weights_sha256 or card.sha256}
    for source, expected in wanted.items():
        if digest != expected:
            raise ModelError(
                f"{path} has sha256 {digest}, {source} says {expected}",
                "the file is truncated or was changed, and its results cannot be trusted",
                "fetch the weights again",
            )
    _check_fits(card, ref, path)
    try:
        tensors = load(blob)
    except SafetensorError as error:
        raise ModelError(
            f"{path} is not a safetensors file ({error})",
            "it is damaged or in another format, and nothing else is read, least of all a pickle",
            "pass weights saved by scenefuse train",
        ) from error
    return card, {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def put_weights(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a network; refuses unless names and shapes match one to one."""
    own = unique_tensors(network)
    wrong = sorted(own.keys() ^ tensors.keys()) or [name for name in own if own[name].shape != tensors[name].shape]
    if wrong:
        raise ModelError(
            f"{source} and the network differ in {len(wrong)} tensors, the first is {wrong[0]}",
            "the weights belong to another architecture or other options",
            "pass the weights with their own card",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def pack_tensors(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> bytes:
    """A safetensors file, as bytes, holding tensors and, in its header, a JSON document."""
    return save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"document": json.dumps(document)},
    )


def unpack_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and document of a file made by `pack_tensors`; ModelError if it is damaged or anything else."""
    try:
        with safe_open(str(path), framework="pt") as file:
            document = json.loads((file.metadata() or {})["document"])
            return {name: file.get_tensor(name) for name in file.keys()}, document  # noqa: SIM118 # it is no mapping
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path} is not a safetensors file with a document ({error})",
            "it is damaged or in another format, and nothing else is read",
            "remove it, and start over",
        ) from error


def read_card(weights: Path) -> WeightsCard:
    """The card beside a weights file; a pickle without a card is reported as a pickle, not as a missing card."""
    path = weights.with_suffix(".json")
    if not path.is_file() and weights.is_file():
        with weights.open("rb") as file:
            _refuse_pickle(weights, file.read(9))
    try:
        raw = json.loads(_read(path, "the card of the weights is"))
        for key in ("hs_bands", "ms_bands"):
            raw[key] = tuple(Band(**band) for band in raw[key])
        return WeightsCard(**raw)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{path} is not a card of weights ({error})",
            "bands, ratio and origin of the weights are unknown",
            "keep the .json that was saved with the weights beside them",
        ) from error


def _read(path: Path, what: str) -> bytes:
    """Bytes of a file; refuses a missing file or a pickle. `what` opens the error message: `the weights are`."""
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror})",
            f"{what} missing, and an untrained network never makes a product",
            "pass --weights with the path of a safetensors file that has its .json beside it",
        ) from error
    _refuse_pickle(path, blob)
    return blob


def _refuse_pickle(path: Path, head: bytes) -> None:
    """Refuse a pickle or torch archive, recognised by its first nine bytes; `head` may hold more."""
    # A safetensors file starts with its header's length, which may begin like a pickle (0x80), followed by a brace.
    if head.startswith((b"PK\x03\x04", b"\x80")) and head[8:9] != b"{":
        raise ModelError(
            f"{path} is a pickle",
            "loading it could run any code",
            "if you trust it, convert it to safetensors and pass that",
        )


def fits(card: WeightsCard, ref: ModelRef) -> bool:
    """Whether the weights match the reference's network, ratio and bands."""
    try:
        _check_fits(card, ref, Path(ref.name))
    except ModelError:
        return False
    return True


def _check_fits(card: WeightsCard, ref: ModelRef, path: Path) -> None:
    """Refuse weights for another architecture or ratio, or for other bands."""
    for what, theirs, ours in (
        ("architecture", card.architecture, ref.name),
        ("ratio", card.ratio, ref.ratio),
        ("number of HSI bands", len(card.hs_bands), len(ref.hs_bands)),
        ("number of MSI bands", len(card.ms_bands), len(ref.ms_bands)),
    ):
        if theirs != ours:
            raise ModelError(
                f"{path} has {what} {theirs}, the pair needs {ours}",
                "the network would not fit, or would fuse bands it has never seen",
                "pass weights trained for this pair, or train some with scenefuse train",
            )
    for trained, found in zip(card.hs_bands + card.ms_bands, ref.hs_bands + ref.ms_bands, strict=True):
        _check_band(trained, found, path)


def _check_band(theirs: Band, ours: Band, path: Path) -> None:
    """Refuse a band whose centre differs from the one the weights were trained with."""
    if theirs.wavelength_nm is None:
        return
    tolerance = max(WAVELENGTH_TOLERANCE_NM, (theirs.fwhm_nm or 0.0) / 2)
    if ours.wavelength_nm is None or abs(ours.wavelength_nm - theirs.wavelength_nm) > tolerance:
        raise ModelError(
            f"{path} was trained with a band at {theirs.wavelength_nm} nm, the pair's {ours.name} is at "
            f"{ours.wavelength_nm} nm",
            "the network would read one wavelength as another",
            "select the bands that the weights' card lists, or train for these",
        )
