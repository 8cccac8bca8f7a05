"""Adds the strings below a dataclass's fields to its docstring, for `help` and a notebook's `?`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from itertools import pairwise
from typing import Any


def describe_fields(cls: type[Any]) -> None:
    """Add an `Attributes` section to a dataclass's docstring, once; without the source, leave it as it is."""
    doc = inspect.cleandoc(cls.__doc__ or "")
    if "\nAttributes:\n" in doc:
        return
    try:
        words = _words_below_fields(cls)
    except (OSError, SyntaxError):
        return
    lines = [f"    {field.name}: {words[field.name]}" for field in dataclasses.fields(cls) if field.name in words]
    if lines:
        cls.__doc__ = "\n".join((doc, "", "Attributes:", *lines))


def _words_below_fields(cls: type[Any]) -> dict[str, str]:
    """The string below each annotated name of a class, on one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found: dict[str, str] = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            value = below.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[field.target.id] = " ".join(value.value.split())
    return found
