from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenefuse.errors import MismatchError
from scenefuse.product.identity import ProductMethod
from scenefuse.product.provenance import (
    Provenance,
    read_provenance,
    read_run,
    write_provenance,
    write_run,
)
from tests.product.making import PROVENANCE, RUN

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_provenance_reads_back_as_the_noun_that_was_written(tmp_path: Path) -> None:
    first = write_provenance(tmp_path, PROVENANCE).read()
    assert read_provenance(tmp_path) == PROVENANCE
    assert write_provenance(tmp_path, read_provenance(tmp_path)).read() == first


def test_many_inputs_keep_their_order() -> None:
    inputs = tuple(replace(PROVENANCE.inputs[0], key=f"B{number:02d}") for number in range(12))
    assert Provenance.from_prov(replace(PROVENANCE, inputs=inputs).to_prov()).inputs == inputs


@given(options=st.dictionaries(st.text(), _JSON, max_size=4), weights=st.none() | st.text(), core=st.integers())
def test_any_options_survive_the_round_trip(options: dict[str, object], weights: str | None, core: int) -> None:
    written = replace(
        PROVENANCE,
        options=options,
        method=ProductMethod(name="x", weights_sha256=weights, options=options),
        plan=replace(PROVENANCE.plan, core_px=core),
    )
    read = Provenance.from_prov(json.loads(json.dumps(written.to_prov())))
    assert read == written
    assert read.options == options
    assert read.method.options == options


def test_every_relation_names_an_element_of_the_document() -> None:
    document = PROVENANCE.to_prov()
    elements = {*document["entity"], *document["activity"], *document["agent"]}
    relations = ("used", "wasGeneratedBy", "wasDerivedFrom", "wasAssociatedWith")
    named = {name for relation in relations for ends in document[relation].values() for name in ends.values()}
    assert named == elements


def test_provenance_holds_no_times_hosts_or_local_paths() -> None:
    text = json.dumps(PROVENANCE.to_prov())
    assert "2024-06" not in text
    assert RUN.host not in json.loads(text)["agent"]["scenefuse:software"]
    assert "/data/" not in text


def test_a_damaged_provenance_is_a_mismatch(tmp_path: Path) -> None:
    path = write_provenance(tmp_path, PROVENANCE).local_path()
    for text in ("{", "[]", "{}", path.read_text().replace("scenefuse:fuse", "scenefuse:other")):
        path.write_text(text)
        with pytest.raises(MismatchError, match="not a provenance"):
            read_provenance(tmp_path)


def test_run_records_read_back_without_credentials(tmp_path: Path) -> None:
    text = write_run(tmp_path, RUN).read().decode()
    assert "secret" not in text
    assert "key@" not in text
    expected = replace(RUN, hrefs={"hsi": "https://a.example/hs1.json", "msi": "/data/ms1.json"})
    read = read_run(tmp_path)
    assert (read, read.hrefs["msi"], read.facts) == (expected, "/data/ms1.json", RUN.facts)
