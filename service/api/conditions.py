"""Conditional requests (RFC 9110 §13): an entity tag is a document's revision, in quotes."""

import re

from fastapi import Request

from service.errors import InvalidHeaderError
from service.store.repository import Presented, Revisions, revision_of

LIST_ITEM = re.compile(r'[ \t]*(?:(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)")?[ \t]*(?:,|$)')
REVISION = re.compile(r"0|[1-9][0-9]{0,17}")


def etag(document: Presented) -> str:
    """The document's entity tag."""
    return f'"{revision_of(document)}"'


def if_match(request: Request) -> Revisions:
    """The revisions that a write may replace; None: any. Raises InvalidHeaderError."""
    return _revisions(request, "if-match", take_weak=False)


def is_not_modified(request: Request, document: Presented) -> bool:
    """Whether the caller has this revision already. Raises InvalidHeaderError."""
    if "if-none-match" not in request.headers:
        return False
    revisions = _revisions(request, "if-none-match", take_weak=True)
    return revisions is None or revision_of(document) in revisions


def _revisions(request: Request, header: str, *, take_weak: bool) -> Revisions:
    """What a list of entity tags names; a tag that no document has ever had names nothing."""
    values = request.headers.getlist(header)
    text = ",".join(values)
    if not values or text.strip() == "*":
        return None
    tags: list[re.Match[str]] = []
    position = 0
    while position < len(text):
        item = LIST_ITEM.match(text, position)
        if item is None:
            break
        position = item.end()
        if item["opaque"] is not None:  # RFC 9110 §5.6.1: a list may have empty items
            tags.append(item)
    if position < len(text) or not tags:
        raise InvalidHeaderError(f'{header.title()} is *, or entity tags like "3", with their quotes.')
    accepted = [tag["opaque"] for tag in tags if take_weak or not tag["weak"]]
    return frozenset(int(opaque) for opaque in accepted if REVISION.fullmatch(opaque))
