"""The two tables of recipes."""

from __future__ import annotations

import pytest

from scenefuse.models.architectures import ARCHITECTURES
from scenefuse.training.losses import LOSSES
from scenefuse.training.recipe import RECIPES, TABLES


@pytest.mark.parametrize("table", list(TABLES))
def test_every_network_has_a_recipe_and_a_loss(table: str) -> None:
    assert set(TABLES[table]) == set(ARCHITECTURES) == set(LOSSES)


def test_the_recipes_for_a_cpu_keep_each_networks_protocol_and_take_small_windows() -> None:
    for name, recipe in TABLES["cpu"].items():
        assert recipe.protocol == RECIPES[name].protocol
        assert recipe.patch_px**2 * recipe.batch * 16 <= RECIPES[name].patch_px ** 2 * RECIPES[name].batch
