"""Which hrefs are followed, and what is said of them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from scenefuse.archive.access import AccessPolicy, check_links
from scenefuse.errors import DataError, TransientError

WEB = "https://archive.example.org/items/a.json"


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("https://data.example.org/a.tif?sig=1", "https://data.example.org/a.tif?sig=1"),
        ("./a.tif", "https://archive.example.org/items/a.tif"),
        ("../b/a.tif", "https://archive.example.org/b/a.tif"),
        ("//other.example.org/a.tif", "https://other.example.org/a.tif"),
        ("s3://bucket/key/a.tif", "s3://bucket/key/a.tif"),
        ("gs://bucket/a.tif", "gs://bucket/a.tif"),
        ("abfs://container/a.tif", "abfs://container/a.tif"),
        ("https://[2606:4700::1111]/a.tif", "https://[2606:4700::1111]/a.tif"),
        ("https://[64:ff9b::808:808]/a.tif", "https://[64:ff9b::808:808]/a.tif"),
    ],
)
def test_public_hrefs_become_absolute(href: str, expected: str) -> None:
    assert AccessPolicy().check(href, WEB) == expected


@pytest.mark.parametrize(
    "href",
    [
        "",
        "/vsicurl/https://data.example.org/a.tif",
        "/vsizip//etc/passwd",
        "/VSIS3/bucket/a.tif",
        "file:///etc/passwd",
        "file://other/etc/passwd",
        "ftp://data.example.org/a.tif",
        "http://data.example.org/a.tif",
        "https://user:secret@data.example.org/a.tif",
        "https://data.example.org\\@localhost/a.tif",
        "https://data.example.org/a b.tif",
        "https:///a.tif",
        "https://[::1",
        "https://localhost/a.tif",
        "https://LOCALHOST./a.tif",
        "https://api.localhost/a.tif",
        "https://printer.local/a.tif",
        "https://nas.home.arpa/a.tif",
        "https://db.localdomain/a.tif",
        "https://metadata.google.internal/computeMetadata/v1/",
        "https://127.0.0.1/a.tif",
        "https://127.1/a.tif",
        "https://2130706433/a.tif",
        "https://0x7f000001/a.tif",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/a.tif",
        "https://192.168.1.1/a.tif",
        "https://100.64.0.1/a.tif",
        "https://0.0.0.0/a.tif",
        "https://224.0.0.1/a.tif",
        "https://[::1]/a.tif",
        "https://[::ffff:127.0.0.1]/a.tif",
        "https://[64:ff9b::7f00:1]/a.tif",
        "https://[2002:7f00:1::]/a.tif",
        "https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/a.tif",
        "https://[fe80::1%25eth0]/a.tif",
        "https://[fd00::1]/a.tif",
        "https://[fec0::1]/a.tif",
        "https://[::10.0.0.1]/a.tif",
        "https://[::ffff:0:a00:1]/a.tif",
        "https://[64:ff9b:1::a00:1]/a.tif",
        "HDF5:/etc/passwd://x",
        "NETCDF:a.nc:band",
        "vrt://a.tif?bands=1",
        "zip+https://data.example.org/a.zip",
        "data:application/json,{}",
        "s3:///a.tif",
    ],
)
def test_hrefs_that_could_reach_elsewhere_are_refused(href: str) -> None:
    with pytest.raises(DataError):
        AccessPolicy().check(href, WEB)


@pytest.mark.parametrize(
    "href", ["/vsimem/x", "file:///vsimem/x", "file:///%2Fvsimem/x", "../../outside.tif", "/etc/passwd"]
)
def test_local_items_reach_only_below_their_folder(href: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        AccessPolicy().check(href, str(tmp_path / "catalog" / "item.json"))


def test_local_hrefs_become_absolute_paths(tmp_path: Path) -> None:
    base = str(tmp_path / "item.json")
    (tmp_path / "a b.tif").touch()
    inside = str((tmp_path / "a b.tif").resolve())
    for href in ("a b.tif", "./a b.tif", inside, (tmp_path / "a b.tif").as_uri()):
        assert AccessPolicy().check(href, base) == inside


def test_a_symlink_out_of_the_catalogue_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside.tif"
    outside.touch()
    catalogue = tmp_path / "catalogue"
    catalogue.mkdir()
    (catalogue / "link.tif").symlink_to(outside)
    with pytest.raises(DataError, match="outside the catalogue"):
        AccessPolicy().check("link.tif", str(catalogue / "item.json"))
    assert AccessPolicy(roots=(tmp_path,)).check("link.tif", str(catalogue / "item.json")) == str(outside.resolve())


def test_a_store_with_a_link_out_of_the_catalogue_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "catalogue" / "a.zarr" / "reflectance"
    store.mkdir(parents=True)
    (tmp_path / "outside").touch()
    (store / "0.0.0").symlink_to("0.0.1")
    check_links(str(store.parent), str(tmp_path / "catalogue"))
    (store / "0.0.1").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="outside the catalogue"):
        check_links(str(store.parent), str(tmp_path / "catalogue"))


def test_a_file_that_is_a_link_out_of_the_catalogue_is_refused(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue"
    catalogue.mkdir()
    (tmp_path / "outside").touch()
    (catalogue / "a").touch()
    (catalogue / "b").symlink_to("a")
    (catalogue / "c").symlink_to("../outside")
    for name in ("a", "b"):
        check_links(str(catalogue / name), str(catalogue))
    with pytest.raises(DataError, match="outside the catalogue"):
        check_links(str(catalogue / "c"), str(catalogue))


def test_a_root_allows_items_in_subfolders_to_refer_upwards(tmp_path: Path) -> None:
    base = str(tmp_path / "items" / "a" / "a.json")
    assert AccessPolicy(roots=(tmp_path,)).check("../../data/a.tif", base) == str(tmp_path.resolve() / "data" / "a.tif")


def test_a_document_from_the_network_cannot_name_a_local_file() -> None:
    with pytest.raises(DataError, match="local file"):
        AccessPolicy(roots=(Path("/"),)).check("file:///etc/passwd", WEB)
    assert AccessPolicy(roots=(Path("/"),)).check("/etc/passwd", WEB) == "https://archive.example.org/etc/passwd"


def test_relative_hrefs_in_an_object_store_stay_in_it() -> None:
    assert AccessPolicy().check("../b/a.tif", "s3://bucket/items/a.json") == "s3://bucket/b/a.tif"


def test_an_allowed_host_may_be_local_and_speak_http() -> None:
    policy = AccessPolicy(allow_hosts=("localhost:8080", "minio"))
    assert policy.check("http://localhost:8080/a.tif", WEB)
    assert policy.check("http://minio/a.tif", WEB)
    with pytest.raises(DataError, match="allow-host localhost"):
        policy.check("http://localhost:9090/a.tif", WEB)


def test_a_name_that_resolves_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        address = {"rebind.example.org": "10.1.2.3", "fine.example.org": "93.184.215.14"}.get(host)
        if address is None:
            raise socket.gaierror("unknown name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    AccessPolicy().check_host("https://fine.example.org/a.tif")
    with pytest.raises(DataError, match=r"10\.1\.2\.3"):
        AccessPolicy().check_host("https://rebind.example.org/a.tif")
    with pytest.raises(TransientError, match="no address"):
        AccessPolicy().check_host("https://absent.example.org/a.tif")

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DataError, match="no address"):
        AccessPolicy().check_host("https://absent.example.org/a.tif")


def test_messages_show_neither_credentials_nor_signatures() -> None:
    href = "ftp://user:secret@data.example.org/a.tif?X-Amz-Signature=abc#frag"
    with pytest.raises(DataError) as caught:
        AccessPolicy().check(href, "https://k:geheim@archive.example.org/a.json?token=xyz")
    for text in ("secret", "abc", "geheim", "xyz", "frag"):
        assert text not in str(caught.value)


@pytest.mark.parametrize("base", [WEB, "/archive/items/a.json"])
@pytest.mark.parametrize(
    "href",
    [
        "https://user:secret@data.example.org/a.tif",
        "https://user:secret@[::1/a.tif",
        "https://user:secret@ex\u2100mple.org/a.tif",  # urllib refuses it with the whole host
        "https://user:secret/1@data.example.org/a.tif",  # and this one with what it takes for the port
        "https:user:secret@data.example.org/a.tif",
        "https:\\\\user:secret@data.example.org/a.tif",
        "file://user:secret@data.example.org/a.tif",
        "/vsicurl/https://user:secret@data.example.org/a.tif",
        "/vsicurl?url=https%3A%2F%2Fuser%3Asecret%40data.example.org",
    ],
)
def test_a_refusal_never_shows_what_may_be_a_secret(href: str, base: str) -> None:
    with pytest.raises(DataError) as refused:
        AccessPolicy().check(href, base)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("href", ["//user:secret@localhost/a.tif", "//[user:secret@", "a.tif?sig=secret\x00"])
def test_a_relative_href_is_told_as_the_url_that_it_means_without_its_secrets(href: str) -> None:
    with pytest.raises(DataError, match="refers to") as refused:
        AccessPolicy().check(href, WEB)
    assert "secret" not in str(refused.value)


def test_a_url_that_a_person_wrote_refers_to_nothing() -> None:
    with pytest.raises(DataError, match=r"^https://localhost/x: the host is local.*--allow-host localhost") as refused:
        AccessPolicy().check("https://localhost/x", "https://localhost/x")
    assert "catalogue" not in str(refused.value)
