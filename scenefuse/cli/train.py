"""`scenefuse train`: train weights for a network on pairs of scenes."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scenefuse.cli.completion import HREF
from scenefuse.cli.options import (
    OwnPath,
    bounds_of,
    pair_options,
    pair_rule,
    pair_search_options,
    refuse_without_catalog,
    scene_config,
    scene_options,
)
from scenefuse.cli.output import emit_json, json_option, note, note_skipped
from scenefuse.config import parse, read_toml
from scenefuse.errors import UsageError
from scenefuse.training.recipe import RECIPES, TABLES, Recipe
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.archive.scene import Scene
    from scenefuse.pipeline.train import Trained

RECIPE_OPTIONS = ("iterations", "patch_px", "batch", "accumulate", "lr", "precision", "score_every", "block_px")
"""Fields of Recipe that have their own option."""


@click.command(name="train")
@click.argument("scenes", nargs=-1, type=HREF, metavar="[HS MS]...")
@click.option("--model", type=click.Choice(list(RECIPES)), required=True, help="Network to train.")
@click.option("--out", type=OwnPath(file_okay=False, path_type=Path), required=True, help="Folder for the weights.")
@click.option("--catalog", "catalogs", type=HREF, multiple=True, help="Train on all pairs of this archive; repeatable.")
@pair_options
@pair_search_options
@click.option("--truth", "truths", type=HREF, multiple=True, help="Truth raster on the fine grid, one per pair.")
@click.option("--minutes", type=click.FloatRange(0), help="Time limit; the same call continues. [none]")
@click.option("--iterations", type=click.IntRange(1), help="Number of steps. [the paper's]")
@click.option(
    "--patch-px", type=click.IntRange(1), help="Side of a training window; rounded to the lattice. [the paper's]"
)
@click.option("--block-px", type=click.IntRange(1), help="Side of held-out blocks. [a window plus its margin]")
@click.option("--batch", type=click.IntRange(1), help="Windows per pass. [the paper's]")
@click.option("--accumulate", type=click.IntRange(1), help="Passes per step. [1]")
@click.option("--lr", type=float, help="Initial learning rate. [the paper's]")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Arithmetic of the forward pass. [fp32]")
@click.option("--score-every", type=click.IntRange(1), help="Steps between evaluations on held-out blocks. [200]")
@click.option(
    "--recipe-name",
    type=click.Choice(list(TABLES)),
    default="paper",
    show_default=True,
    help="Training recipe; `cpu`: small windows, minutes on one scene.",
)
@click.option(
    "--recipe", type=OwnPath(dir_okay=False, path_type=Path), help="TOML file that overrides fields of the recipe."
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set an option of the network; repeatable."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Device to train on. [auto]")
@click.option("--name", help="Also put the weights on your shelf under this name, where `fuse` finds them.")
@click.option(
    "--licence", default="LicenseRef-unstated", show_default=True, help="Licence of the weights, an SPDX expression."
)
@scene_options
@json_option
def command(
    scenes: tuple[str, ...], model: str, out: Path, catalogs: tuple[str, ...], *, as_json: bool, **options: Any
) -> None:
    """Train a network on pairs of scenes, each an HS and an MS, or on all pairs of an archive.

    By default training follows Wald's protocol: both scenes are degraded by their ratio, and the HSI is the truth.
    With --truth, one raster per pair, pairs are used at full resolution; so they are by mossfuse, which needs no truth.

    A quarter of each scene, in blocks, is held out and scores the weights. The best weights go to
    OUT/<model>-<bands>x<ratio>.safetensors with their card; learning curves and a checkpoint are written beside them.
    If interrupted, the same call continues from the checkpoint.

    With several GPUs: torchrun --nproc-per-node 4 -m scenefuse train ... --accumulate 4. The passes of each step are
    divided among the processes, and the result is what one process would learn.
    """
    from scenefuse.pipeline.train import TrainConfig, train
    from scenefuse.training.ranks import Ranks

    inputs = scene_config(options)
    pairs = _pairs(scenes, catalogs, options, allow_hosts=inputs.allow_host)
    config = TrainConfig(
        model=model,
        recipe=_recipe(model, options),
        options=_settings(options["settings"]),
        truths=options["truths"],
        seed=options["seed"],
        minutes=options["minutes"],
        device=options["device"],
        licence=options["licence"],
        name=options["name"],
        inputs=inputs,
    )
    trained = train(pairs, out=out, config=config, report=show_row)
    if not Ranks.of_environment().first:
        return
    if as_json:
        emit_json(trained.facts())
    else:
        show_trained(trained)


def show_row(row: dict[str, float]) -> None:
    """Note the progress of training on stderr."""
    scores = ", ".join(f"{name} {value:.3f}" for name, value in row.items() if name.endswith(("_db", "_deg", "_px")))
    note(f"  step {row['step']:.0f}: loss {row['loss']:.4g}, held-out {scores}")


def show_trained(trained: Trained) -> None:
    """Print what was trained."""
    click.echo(f"Trained: {trained.weights}")
    for name, value in trained.scores.items():
        base = f" (bicubic {trained.bicubic[name]:.3f})" if name in trained.bicubic else ""
        click.echo(f"  {name} {value:.3f}{base} on held-out blocks, after {counted(trained.step, 'step')}")
    if trained.label is not None:
        click.echo(f"On the shelf: {trained.label} (scenefuse fuse --weights {trained.label})")
    if trained.stopped == "minutes":
        click.echo(f"  time limit reached after {counted(trained.steps, 'step')}: the same call continues")


def _pairs(
    scenes: tuple[str, ...], catalogs: tuple[str, ...], options: dict[str, Any], *, allow_hosts: tuple[str, ...]
) -> list[tuple[str | Scene, str | Scene]]:
    """The pairs named on the command line, or those of the catalogues. Removes the options it uses."""
    from scenefuse.archive.pair_search import find_in_archive

    if scenes:
        refuse_without_catalog(options)
    bounds, rule = bounds_of(options), pair_rule(options)
    if bool(scenes) == bool(catalogs) or len(scenes) % 2:
        raise UsageError(
            f"{counted(len(scenes), 'scene')} and {counted(len(catalogs), 'catalogue')}",
            "pairs are HS MS, HS MS, ... or those of --catalog",
            "Give one of the two",
        )
    if scenes:
        return list(zip(scenes[::2], scenes[1::2], strict=True))
    if options["truths"]:
        raise UsageError(
            "--truth with --catalog", "it is not clear which pair it belongs to", "Name the pairs: HS MS, HS MS"
        )
    pairing, skipped = find_in_archive(catalogs, rule, bounds=bounds, allow_hosts=allow_hosts)
    note_skipped(skipped)
    if not pairing.pairs:
        raise UsageError("no pair in the catalogues", "there is nothing to learn from", "See scenefuse pair")
    return [(pair.hs, pair.ms) for pair in pairing.pairs]


def _recipe(model: str, options: dict[str, Any]) -> Recipe:
    """The network's recipe of --recipe-name, overridden by --recipe's file, then by the options given."""
    values = asdict(TABLES[options["recipe_name"]][model])
    path: Path | None = options["recipe"]
    table = {} if path is None else read_toml(path)
    recipe = parse(Recipe, {**values, **table}, where=str(path or "recipe"))
    given = {name: options[name] for name in RECIPE_OPTIONS if options[name] is not None}
    return replace(recipe, **given)


def _settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Options of the network: TOML values, or bare words as text."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {setting}", "it does not name an option", "Write it like --set width=32")
        try:
            values[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = text.strip()
    return values
