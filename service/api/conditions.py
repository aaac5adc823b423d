"""Conditional requests (RFC 9110 §13): an entity tag is a document's revision, in quotes.

Of what has masks in it `-masked` follows.
"""

import re

from fastapi import Request

from service.errors import InvalidHeaderError
from service.store.repository import MASKED, Presented, Revisions, entity_tag

LIST_ITEM = re.compile(r'[ \t]*(?:(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)")?[ \t]*(?:,|$)')
REVISION = re.compile(rf"(0|[1-9][0-9]{{0,17}})(?:{MASKED})?")


def if_match(request: Request) -> Revisions:
    """The revisions that a write may replace, whatever was seen of them; None: any. Raises InvalidHeaderError."""
    tags = _tags(request, "if-match", take_weak=False)
    return None if tags is None else frozenset(int(found[1]) for tag in tags if (found := REVISION.fullmatch(tag)))


def is_not_modified(request: Request, document: Presented, *, is_masked: bool = False) -> bool:
    """Whether the caller has this revision already, with masks or without as now. Raises InvalidHeaderError."""
    if "if-none-match" not in request.headers:
        return False
    tags = _tags(request, "if-none-match", take_weak=True)
    return tags is None or entity_tag(document, is_masked=is_masked) in {f'"{tag}"' for tag in tags}


def _tags(request: Request, header: str, *, take_weak: bool) -> list[str] | None:
    """The entity tags in a list, without their quotes; None: any."""
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
    return [tag["opaque"] for tag in tags if take_weak or not tag["weak"]]
