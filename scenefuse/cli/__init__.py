"""The room cli: the commands."""
