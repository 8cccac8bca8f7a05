"""The exceptions that scenefuse raises, each with its exit code.

Every message has three parts: the wrong value, the consequence, and the cure.
"""

from __future__ import annotations

from typing import ClassVar


class SceneFuseError(Exception):
    """An error that scenefuse can explain; printed without a traceback."""

    kind: ClassVar[str] = "bug"
    """Type of the failure in records: bug, usage, data, model, resource, busy, transient, work, mismatch."""
    exit_code: ClassVar[int] = 1
    """Exit code of the command when the error is raised before any work."""
    retryable: ClassVar[bool] = False
    """True if the same call may succeed later with nothing changed."""

    def __init__(self, value: str, consequence: str, cure: str) -> None:
        super().__init__(value, consequence, cure)
        self.value = value
        """What is wrong, with its value and where: `a.tif has no CRS`."""
        self.consequence = consequence
        """The consequence: `it cannot be placed on the ground`."""
        self.cure = cure
        """The remedy: `assign one with rio edit-info --crs EPSG:32633 a.tif`."""

    def __str__(self) -> str:
        return f"{self.value}: {self.consequence}. {self.cure[:1].upper()}{self.cure[1:]}."


class UsageError(SceneFuseError):
    """The call itself is wrong: an unknown key, two options that exclude each other."""

    kind = "usage"
    exit_code = 2


class DataError(SceneFuseError):
    """An input cannot be used as it is."""

    kind = "data"
    exit_code = 4


class ModelError(SceneFuseError):
    """A method or its weights do not fit this pair, or are not what they claim to be."""

    kind = "model"
    exit_code = 4


class ResourceError(SceneFuseError):
    """Memory, disk, or a device is too small for the plan; a smaller plan may fit."""

    kind = "resource"
    exit_code = 4


class StorageError(ResourceError):
    """A place cannot store or return files: it is full or no longer accessible; a smaller task does not help."""


class TransientError(SceneFuseError):
    """A network or store failure that may pass."""

    kind = "transient"
    exit_code = 4
    retryable = True


class WorkError(SceneFuseError):
    """Work failed after it began; what is finished is kept and reused."""

    kind = "work"
    exit_code = 3


class MismatchError(SceneFuseError):
    """A product does not match its checksums or its provenance."""

    kind = "mismatch"
    exit_code = 5
