"""Shell completion: names of methods, and paths."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from scenefuse.models.names import known_names


class Href(click.ParamType[str]):
    """A path or a URL; a shell can complete the path."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 # click's signature
        """Let the shell complete paths."""
        return [CompletionItem(incomplete, type="file")]


class ModelName(click.ParamType[str]):
    """Name of a method; whether it exists is checked where the method is made."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 # click's signature
        """Methods whose names start with the word."""
        return [CompletionItem(name) for name in known_names() if name.startswith(incomplete)]


class ModelNames(click.ParamType[str]):
    """Comma-separated names of methods."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 # click's signature
        """The list completed by each method that its last name may become and that it does not have yet."""
        head, comma, begun = incomplete.rpartition(",")
        listed = head.split(",")
        names = [name for name in known_names() if name.startswith(begun) and name not in listed]
        return [CompletionItem(f"{head}{comma}{name}") for name in names]


HREF = Href()
MODEL_NAME = ModelName()
MODEL_NAMES = ModelNames()
