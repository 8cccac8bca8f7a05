"""The commands, one small module each: a command parses its arguments, calls one function and prints the result."""

from scenefuse.cli.app import main as main

__all__ = ["main"]
