"""Readable messages from the bodies of error responses."""

from __future__ import annotations

import json
import re
from typing import Any

_TAG = re.compile(r"<(script|style|head)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_LONGEST_MESSAGE = 300


def message_from(body: bytes) -> str:
    """One line from the body of an error response: the message in JSON, else the text of HTML or plain text.

    >>> message_from(b'{"code": "ConflictError", "description": "it is there"}')
    'it is there'
    >>> message_from(b'{"detail": [{"loc": ["body", "id"], "msg": "Field required"}]}')
    'body.id: Field required'
    """
    try:
        text = _message(json.loads(body))
    except (ValueError, RecursionError):
        text = _TAG.sub(" ", body[:20_000].decode("utf-8", "replace"))
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}..."


def _message(document: Any) -> str:
    """The readable message in a JSON error document."""
    if isinstance(document, list):
        return "; ".join(filter(None, map(_message, document)))
    if not isinstance(document, dict):
        return str(document)
    where = ".".join(map(str, document["loc"])) + ": " if isinstance(document.get("loc"), list) else ""
    found = (document.get(key) for key in ("detail", "description", "msg", "message", "title", "code", "error"))
    return next((where + _message(value) for value in found if value), "")
