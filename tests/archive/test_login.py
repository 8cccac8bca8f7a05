"""Files that open to accounts: what is sent to which host, and what is said where that does not open them."""

from __future__ import annotations

import base64
import logging
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from scenefuse.archive import fetch, login
from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.fetch import Fetcher
from scenefuse.archive.known import KnownArchive, KnownLogin, known_archives
from scenefuse.archive.remote import open_remote
from scenefuse.errors import DataError, SceneFuseError
from tests.archive.server import Stub, serve

CONTENT = bytes(range(256)) * 20
FILES, SIGN_ON, CDN = "files.example.org", "sign-on.example.org", "cdn.example.org"
SECRETS = ("token-secret", "pass-secret", base64.b64encode(b"me:pass-secret").decode(), "jar-secret", "code-secret")
PAGE = (200, {"Content-Type": "text/html; charset=utf-8"}, b"<html><form>Password</form></html>")


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class Archive(Stub):
    """Three hosts on one port, as NASA's are: files behind a sign-on, which come from a third by signed addresses."""

    def at(self, host: str) -> str:
        return f"http://{host}:{urlsplit(self.url).port}"

    def answer(self, method: str, target: str, body: object) -> tuple[int, dict[str, str], bytes]:
        headers, parts = self.requests[-1][2], urlsplit(target)
        host = headers["Host"].partition(":")[0]
        if parts.path in self.replies:
            return super().answer(method, target, body)
        told = {"files": self._files, "sign-on": self._sign_on, "cdn": self._cdn}[host.partition(".")[0]]
        return told(headers, parts.path, parse_qs(parts.query))

    def _files(
        self, headers: dict[str, str], path: str, query: dict[str, list[str]]
    ) -> tuple[int, dict[str, str], bytes]:
        if path == "/login":
            assert query["code"] == ["code-secret"]
            cookie = "session=jar-secret; Domain=.example.org; Path=/"
            return 302, {"Set-Cookie": cookie, "Location": query["state"][0]}, b""
        if headers.get("Authorization") == "Bearer token-secret" or headers.get("Cookie") == "session=jar-secret":
            return 303, {"Location": f"{self.at(CDN)}{path}?sig=code-secret"}, b""
        return 302, {"Location": f"{self.at(SIGN_ON)}/oauth/authorize?state={path}"}, b""

    def _sign_on(
        self, headers: dict[str, str], _: str, query: dict[str, list[str]]
    ) -> tuple[int, dict[str, str], bytes]:
        if headers.get("Authorization") != basic("me", "pass-secret"):
            return 401, {}, b"Access denied"
        back = f"{self.at(FILES)}/login?code=code-secret&state={query['state'][0]}"
        return 302, {"Location": back, "Set-Cookie": "gui=jar-secret; Domain=example.org"}, b""

    def _cdn(
        self, headers: dict[str, str], path: str, query: dict[str, list[str]]
    ) -> tuple[int, dict[str, str], bytes]:
        if "Authorization" in headers or path != "/a.tif" or query != {"sig": ["code-secret"]}:
            return 400, {}, b"one mechanism of authorization alone"
        first, last = map(int, headers["Range"].removeprefix("bytes=").split("-"))
        told = {"Content-Range": f"bytes {first}-{last}/{len(CONTENT)}", "ETag": '"1"'}
        return 206, told, CONTENT[first : last + 1]

    @property
    def hosts(self) -> list[str]:
        """Who was asked, one after the other."""
        return [headers["Host"].partition(".")[0] for _, _, headers, _ in self.requests]

    def sent_to(self, host: str, name: str) -> set[str | None]:
        """What was sent to a host under the name of a header."""
        return {headers.get(name) for _, _, headers, _ in self.requests if headers["Host"].startswith(f"{host}:")}


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """The running archive, known by the name `ours`; its names resolve to this machine."""
    resolved = socket.getaddrinfo

    def resolve(host: str, *args: object, **named: object) -> object:
        return resolved("127.0.0.1" if str(host).endswith(".example.org") else host, *args, **named)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(fetch, "_BACKOFF_S", 0.001)
    known = KnownArchive(
        name="ours", title="", url="", signing="", credentials="a free account", notes="", collections=(),
        login=KnownLogin(hosts=(FILES,), machines=(SIGN_ON,), token="OUR_TOKEN"),  # noqa: S106 - a variable's name
    )  # fmt: skip
    monkeypatch.setattr(login, "_archives", lambda: {FILES: known, SIGN_ON: known})
    with serve(Archive()) as running:
        assert isinstance(running, Archive)
        yield running


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file, as yet empty."""
    path = tmp_path / "netrc"
    path.touch(mode=0o600)
    monkeypatch.setenv("NETRC", str(path))
    return path


POLICY = AccessPolicy(allow_hosts=(FILES, SIGN_ON, CDN))


def test_a_token_opens_the_files_of_its_archive_and_goes_nowhere_else(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_TOKEN", "token-secret")
    file = open_remote(f"{archive.at(FILES)}/a.tif", POLICY)
    assert file.read((5, 700)) == CONTENT[5:700]
    assert archive.hosts == ["files", "cdn"] * 2
    assert archive.sent_to(FILES, "Authorization") == {"Bearer token-secret"}
    assert archive.sent_to(CDN, "Authorization") == {None}


def test_a_password_opens_them_through_the_sign_on_which_is_asked_once(archive: Archive, netrc: Path) -> None:
    netrc.write_text(f"machine {SIGN_ON} login me password pass-secret\n")
    with Fetcher(POLICY) as fetcher:
        for first in (0, 100):
            part = fetcher.get_range(f"{archive.at(FILES)}/a.tif", first, first + 50)
            assert part.data == CONTENT[first : first + 50]
    assert archive.hosts == ["files", "sign-on", "files", "files", "cdn", "files", "cdn"]
    assert archive.sent_to(SIGN_ON, "Authorization") == {basic("me", "pass-secret")}
    assert archive.sent_to(FILES, "Authorization") == archive.sent_to(CDN, "Authorization") == {None}


def test_cookies_are_sent_to_the_host_that_set_them_alone(archive: Archive, netrc: Path) -> None:
    netrc.write_text(f"machine {SIGN_ON} login me password pass-secret\n")
    with Fetcher(POLICY) as fetcher:
        fetcher.get_range(f"{archive.at(FILES)}/a.tif", 0, 9)
        archive.requests.clear()
        archive.replies["/b.tif"] = [(302, {"Location": f"{archive.at(SIGN_ON)}/oauth/authorize?state=/a.tif"}, b"")]
        fetcher.get_range(f"{archive.at(FILES)}/b.tif", 0, 9)
    assert archive.sent_to(FILES, "Cookie") == {"session=jar-secret"}
    assert archive.sent_to(SIGN_ON, "Cookie") == {"gui=jar-secret"}
    assert archive.sent_to(CDN, "Cookie") == {None}


def test_what_opens_files_is_never_told(
    archive: Archive, netrc: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    netrc.write_text(f"machine {SIGN_ON} login me password pass-secret\n")
    said = ""
    with caplog.at_level(logging.DEBUG):
        for token in ("", "token-secret"):
            monkeypatch.setenv("OUR_TOKEN", token)
            file = open_remote(f"{archive.at(FILES)}/a.tif", POLICY)
            file.read((0, 9))
            said += f"{file!r}{pickle.dumps(file)!r}{login.login_for(archive.at(FILES if token else SIGN_ON))!r}"
            archive.replies["/a.tif"] = [(403, {}, b"token-secret pass-secret")]
            with pytest.raises(DataError) as caught:
                open_remote(f"{archive.at(FILES)}/a.tif", POLICY)
            said += str(caught.value)
            del archive.replies["/a.tif"]
    assert archive.hosts.count("sign-on") >= 1
    assert "variable OUR_TOKEN" in said
    for secret in SECRETS:
        assert secret not in said + caplog.text


def test_a_callers_own_authorization_goes_first_and_nothing_is_added_to_an_exchange(
    archive: Archive, netrc: Path
) -> None:
    netrc.write_text(f"machine {CDN} login me password pass-secret\n")
    archive.replies["/document"] = [(200, {}, b"{}")]
    with Fetcher(POLICY) as fetcher:
        for name in ("authorization", "Authorization"):
            fetcher.get(f"{archive.at(CDN)}/document", headers={name: "Bearer own"})
        fetcher.exchange("GET", f"{archive.at(CDN)}/document")
        fetcher.request("POST", f"{archive.at(CDN)}/document", body={})
        fetcher.get(f"{archive.at(CDN)}/document")
    sent = [headers.get("Authorization", headers.get("authorization")) for _, _, headers, _ in archive.requests]
    assert sent == ["Bearer own", "Bearer own", None, None, basic("me", "pass-secret")]


def test_a_search_that_is_posted_to_an_archive_of_accounts_is_refused_with_the_reason(
    archive: Archive, netrc: Path
) -> None:
    netrc.write_text(f"machine {CDN} login me password pass-secret\n")
    archive.replies["/search"] = [(401, {}, b"")]
    with Fetcher(POLICY) as fetcher, pytest.raises(DataError, match="401 to a POST: it needs credentials, and logins"):
        fetcher.request("POST", f"{archive.at(CDN)}/search", body={})


def test_no_login_is_sent_without_tls_to_a_host_that_was_not_named(
    archive: Archive, netrc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc.write_text(f"machine {CDN} login me password pass-secret\n")
    for name in ("check", "check_host", "check_address"):
        monkeypatch.setattr(AccessPolicy, name, lambda _policy, href, *_: href)
    archive.replies["/document"] = [(200, {}, b"{}")]
    with Fetcher(AccessPolicy()) as fetcher:
        fetcher.get(f"{archive.at(CDN)}/document")
    assert archive.sent_to(CDN, "Authorization") == {None}


@pytest.mark.parametrize("content", ["", "default login me password pass-secret\n"], ids=["no file", "default"])
def test_a_host_without_a_line_gets_nothing_and_the_cure_is_said(archive: Archive, netrc: Path, content: str) -> None:
    netrc.write_text(content) if content else netrc.unlink()
    archive.replies["/a.tif"] = [(401, {}, b"")]
    said = rf"answered 401: it needs credentials.*machine {CDN} login USER password PASSWORD' into {netrc}"
    with pytest.raises(DataError, match=said):
        open_remote(f"{archive.at(CDN)}/a.tif?sig=x", POLICY)
    assert archive.sent_to(CDN, "Authorization") == {None}
    with pytest.raises(
        DataError, match=rf"Set OUR_TOKEN, or write 'machine {SIGN_ON} .*; ours asks for a free account"
    ):
        open_remote(f"{archive.at(FILES)}/a.tif", POLICY)


def test_a_host_of_the_name_default_does_not_get_the_default_entry(netrc: Path) -> None:
    netrc.write_text("default login me password pass-secret\n")
    assert login.login_for("https://default/a.tif") is None


def test_a_login_that_is_refused_is_named_by_its_source(
    archive: Archive, netrc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc.write_text(f"machine {SIGN_ON} login me password wrong\n")
    with pytest.raises(DataError, match=rf"sign-on.*answered 401: it needs credentials, and those from {netrc} were r"):
        open_remote(f"{archive.at(FILES)}/a.tif", POLICY)
    monkeypatch.setenv("OUR_TOKEN", "ended")
    netrc.write_text("")
    with pytest.raises(
        DataError, match=rf"401, where {FILES} redirected with the login from the variable OUR_TOKEN: it needs"
    ):
        open_remote(f"{archive.at(FILES)}/a.tif", POLICY)
    archive.replies["/a.tif"] = [(403, {}, b"")]
    with pytest.raises(
        DataError, match=r"those from the variable OUR_TOKEN were refused.*ours asks for a free account"
    ):
        open_remote(f"{archive.at(FILES)}/a.tif", POLICY)


def test_a_page_in_place_of_a_part_is_told_as_the_login_that_it_is(archive: Archive, netrc: Path) -> None:
    archive.replies["/oauth/authorize"] = [PAGE]
    page = rf"{SIGN_ON} sent a web page instead of a part of .*{FILES}:\d+/a.tif"
    with pytest.raises(DataError, match=rf"{page}: it is most likely a login.*Set OUR_TOKEN, or write"):
        open_remote(f"{archive.at(FILES)}/a.tif", POLICY)
    netrc.write_text(f"machine {SIGN_ON} login me password pass-secret\n")
    with pytest.raises(DataError, match=rf"{page}, with the login from {netrc} sent.*download the file in a browser"):
        open_remote(f"{archive.at(FILES)}/a.tif", POLICY)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (f"machine {CDN} login me password pass-secret", 0o640, r"mode 640.*chmod 600"),
        (
            f"machine {CDN} login me pass-secret password",
            0o600,
            r"is not a netrc file at line 1.*machine HOST login USER",
        ),
        (f"machine {CDN} login me password pässe".encode("latin-1"), 0o600, "is not a netrc file"),
    ],
    ids=["others may read it", "broken", "no text"],
)
def test_a_netrc_that_cannot_be_trusted_or_read_is_refused_where_it_names_the_host(
    archive: Archive, netrc: Path, content: str | bytes, mode: int, said: str
) -> None:
    netrc.write_bytes(content if isinstance(content, bytes) else content.encode())
    netrc.chmod(mode)
    with pytest.raises(DataError, match=said) as caught:
        open_remote(f"{archive.at(CDN)}/a.tif", POLICY)
    assert isinstance(caught.value, SceneFuseError)
    told: BaseException | None = caught.value
    while told is not None:
        assert "pass-secret" not in str(told)
        told = told.__cause__
    assert login.login_for("https://open.example.org/a.tif") is None


def test_a_token_that_no_header_can_have_is_told(monkeypatch: pytest.MonkeyPatch, archive: Archive) -> None:
    monkeypatch.setenv("OUR_TOKEN", "token-secret\nX: y")
    with pytest.raises(DataError, match="variable OUR_TOKEN contains blanks") as caught:
        login.login_for(f"{archive.at(FILES)}/a.tif")
    assert "secret" not in str(caught.value)


def test_the_archives_that_ask_for_accounts_are_known(monkeypatch: pytest.MonkeyPatch, netrc: Path) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", "token-secret")
    emit = login.login_for("https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected/EMITL2ARFL.001/a.nc")
    assert emit is not None
    assert (emit.authorization, emit.source) == ("Bearer token-secret", "the variable EARTHDATA_TOKEN")
    assert login.login_for("https://cmr.earthdata.nasa.gov/stac/LPCLOUD") is None
    assert login.login_for("https://urs.earthdata.nasa.gov/oauth/authorize") is None
    netrc.write_text("machine download.geoservice.dlr.de login me password pass-secret")
    enmap = login.login_for("https://download.geoservice.dlr.de/ENMAP/files/a.tif")
    assert enmap is not None
    assert (enmap.authorization, enmap.source) == (basic("me", "pass-secret"), str(netrc))
    assert {archive.name for archive in known_archives() if archive.login is not None} == {"dlr", "lpcloud"}
