"""What a shell offers for a word that is begun: names of methods, and paths."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from scenefuse.models.names import known_names


class Href(click.ParamType[str]):
    """A path or a URL, of which a shell can complete the path."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 # click's signature
        """Paths, as the shell knows them."""
        return [CompletionItem(incomplete, type="file")]


class ModelName(click.ParamType[str]):
    """The name of a method; whether there is one of that name is found out by who makes it."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 # click's signature
        """The methods that begin so."""
        return [CompletionItem(name) for name in known_names() if name.startswith(incomplete)]


class ModelNames(click.ParamType[str]):
    """Names of methods, by commas."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 # click's signature
        """The list with each method that the last name may become and that it does not have yet."""
        head, comma, begun = incomplete.rpartition(",")
        listed = head.split(",")
        names = [name for name in known_names() if name.startswith(begun) and name not in listed]
        return [CompletionItem(f"{head}{comma}{name}") for name in names]


HREF = Href()
MODEL_NAME = ModelName()
MODEL_NAMES = ModelNames()
