"""Hrefs: what is a URL, and what of it is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenefuse.place.href import is_url, redact


@pytest.mark.parametrize(
    ("href", "said"),
    [
        ("https://a.example/b/c.tif?X-Amz-Signature=1&se=2#frag", "https://a.example/b/c.tif"),
        ("https://user:key@a.example:8443/c.tif", "https://a.example:8443/c.tif"),
        ("ftp://user:secret@a.example/c.tif?sig=1", "ftp://a.example/c.tif"),
        ("s3://bucket/key@2.tif?token=1", "s3://bucket/key@2.tif"),
        ("file:///home/someone/c@2.tif", "file:///home/someone/c@2.tif"),
        ("file://user:secret@host/c.tif", "file://host/c.tif"),
        ("/home/someone/c?1#2.tif", "/home/someone/c?1#2.tif"),
        ("c.tif", "c.tif"),
        ("https://user:secret@[::1/a", "https://..."),
        ("https://user:sec/ret@host/a", "https://..."),
        ("https:user:secret@host/a", "https://..."),
        ("/vsicurl/https://user:secret@host/a?sig=1", "/vsicurl/..."),
        ("/vsicurl?url=https%3A%2F%2Fuser%3Asecret%40host", "/vsicurl/..."),
        (" https://user:secret@host/a", " https://..."),
    ],
)
def test_what_is_said_of_an_href(href: str, said: str) -> None:
    assert redact(href) == said
    assert redact(said) == said


ODD = "abc123:?#[]%&=+ @"


@given(
    user=st.text(ODD, min_size=1, max_size=12),
    secret=st.text(ODD + "/", max_size=3).map(lambda odd: f"sec{odd}RET"),
    path=st.text(ODD + "/", max_size=12),
)
def test_a_password_is_not_said_however_it_is_written(user: str, secret: str, path: str) -> None:
    said = redact(f"https://{user}:{secret}@host/{path}?sig={secret}")
    assert "sec" not in said
    assert "RET" not in said


@pytest.mark.parametrize(
    ("href", "url"), [("s3://b/k", True), ("HTTPS://a", True), ("file:///a", False), ("/a", False), ("a/b.tif", False)]
)
def test_a_file_url_is_a_path(href: str, url: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_url(href) is url
