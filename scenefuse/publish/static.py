"""Products into a static catalogue on a path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from scenefuse.errors import DataError, ResourceError, UsageError
from scenefuse.place.durable import PART, json_bytes, sync_folder
from scenefuse.place.href import redact
from scenefuse.product.catalog import link_item
from scenefuse.product.files import MANIFEST, STORE
from scenefuse.product.folder import product_folder
from scenefuse.product.manifest import read_manifest
from scenefuse.product.stac_item import read_item
from scenefuse.product.succession import PREDECESSOR, SUCCESSOR, item_name, pass_on
from scenefuse.product.verify import verify
from scenefuse.publish.destination import Outcome, Published

Transfer = Literal["copy", "link"]


def publish_static(
    folders: Sequence[Path], destination: Path, *, asset_root: str | None = None, transfer: Transfer = "copy"
) -> list[Published]:
    """What was done for each product folder, in order; the first bad product stops before it is published.

    asset_root: URL under which the destination's folders are served; asset hrefs become `<asset_root>/<id>/<name>`
    in place of relative ones. transfer `link` makes hard links, for a destination on the same disk.
    """
    catalogue = StaticCatalogue(root=destination, asset_root=asset_root, transfer=transfer)
    return [catalogue.publish(folder) for folder in folders]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticCatalogue:
    """A folder of static STAC; implements Catalogue."""

    root: Path
    """Folder of `catalog.json` and `collection.json`."""
    asset_root: str | None = None
    """URL that serves root, for absolute asset hrefs; None keeps them relative."""
    transfer: Transfer = "copy"
    """Copies of the files, or hard links to them."""

    def __post_init__(self) -> None:
        if self.asset_root is not None and redact(self.asset_root).lower() != self.asset_root.lower():
            raise UsageError(
                f"asset root {redact(self.asset_root)} with a user name, a query or a fragment",
                "everyone who reads the items would have it",
                "Give the URL that readers need, https://host/path",
            )

    def publish(self, folder: Path, *, again: bool = False) -> Published:
        """Take in the verified product in folder: its files, then its item, then the links to it.

        again: one whose item stands in the catalogue as it would be written now is believed to be there whole. A pass
        over an archive asks so for what it found: else each would read every byte of all products twice.
        """
        folder = product_folder(folder).local_path()
        target = self.root.resolve() / folder.name
        believed = again and self._stands(folder, target)
        if not believed:
            verify(folder).raise_if_bad()
        if target == folder:
            raise DataError(
                f"{folder} is already in {self.root}", "a product cannot replace itself", "choose another destination"
            )
        item = self._item(folder, target)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"{self.root} cannot be made a folder ({error.strerror})",
                "no product can be published there",
                "choose another destination",
            ) from error
        outcome: Outcome = "unchanged" if believed else self._outcome(folder, target, item)
        if outcome != "unchanged":
            self._put(folder, target, item)
        linked = link_item(self.root, item)
        pass_on(target)
        if outcome == "unchanged" and linked:
            outcome = "replaced"
        return Published(item_id=item["id"], outcome=outcome, href=str(target / f"{folder.name}.json"))

    def _item(self, folder: Path, target: Path) -> dict[str, Any]:
        """The item as it will stand in target: same assets, and links to sources and versions that readers can follow.

        A source on this disk is linked while it is there and the catalogue is read from this disk, or beside it: from
        a web server the path would lead nowhere. The provenance names every source. The method's item goes with the
        product.
        """
        item = read_item(folder)
        assets = {asset["href"]: asset for asset in item["assets"].values()}
        if self.asset_root is not None:
            root = f"{self.asset_root.rstrip('/')}/{quote(folder.name)}"
            for asset in item["assets"].values():
                asset["href"] = f"{root}/{Path(asset['href']).name}"
        links = []
        for link in item["links"]:
            if link["rel"] in {PREDECESSOR, SUCCESSOR} and not (target.parent / item_name(link)).is_dir():
                continue
            if link["rel"] == "derived_from" and link["href"] in assets:
                link["href"] = assets[link["href"]]["href"]
            elif link["rel"] == "derived_from" and "://" not in link["href"]:
                source = (folder / link["href"]).resolve()
                if not source.exists() or not (self.asset_root is None or source.is_relative_to(self.root.resolve())):
                    continue
                link["href"] = Path(os.path.relpath(source, target)).as_posix()
            links.append(link)
        return {**item, "links": links}

    def _stands(self, folder: Path, target: Path) -> bool:
        """Whether the product's item is in the catalogue just as it would be written."""
        path = target / f"{folder.name}.json"
        return target != folder and path.is_file() and path.read_bytes() == json_bytes(self._item(folder, target))

    def _outcome(self, folder: Path, target: Path, item: dict[str, Any]) -> Outcome:
        """What publishing has to do; a target that is damaged counts as one that differs."""
        path = target / f"{folder.name}.json"
        if not path.is_file():
            return "added"
        same = path.read_bytes() == json_bytes(item) and verify(target).ok
        return "unchanged" if same else "replaced"

    def _put(self, folder: Path, target: Path, item: dict[str, Any]) -> None:
        """Put the product into target: built beside it and renamed, so that readers never see half of it."""
        part = self.root.resolve() / f".{folder.name}.{os.getpid()}{PART}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            for name in _files(folder, item):
                self._transfer(folder / name, part / name)
            (part / f"{folder.name}.json").write_bytes(json_bytes(item))
            _sync(part)
            old = part.with_name(f".{folder.name}.{os.getpid()}.old{PART}")
            if target.exists():
                target.rename(old)
            part.rename(target)
            sync_folder(target.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _transfer(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.transfer == "copy":
            shutil.copyfile(source, target)
            return
        try:
            target.hardlink_to(source)
        except OSError as error:
            raise DataError(
                f"{source} cannot be linked to {target} ({error})",
                "hard links need both on one disk that knows them",
                "publish with copies",
            ) from error


def _files(folder: Path, item: dict[str, Any]) -> list[str]:
    """Paths below folder of everything the item's assets consist of; working files stay behind."""
    names = {Path(asset["href"]).name for asset in item["assets"].values()} - {STORE}
    stored = {f"{STORE}/{line.key}" for line in read_manifest(folder)}
    return sorted(names | stored | {MANIFEST})


def _sync(folder: Path) -> None:
    """Wait until every file below folder is on the disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
