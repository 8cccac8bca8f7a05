"""The room cli: the commands, one small module each; a command parses, calls one function, prints."""

from scenefuse.cli.app import main as main

__all__ = ["main"]
