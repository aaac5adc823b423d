"""Links of the OpenAPI document: where a program can go on to from an answer, by what is in it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

PARAMETER = re.compile(r"\{([^{}]+)\}")

Document = dict[str, Any]


def add_links(document: Document) -> None:
    """Let what was created lead to all that can be done with it, and a file to its record."""
    paths: Mapping[str, Any] = document["paths"]
    for path, operations in paths.items():
        _link(operations, "post", "201", list(_members(paths, path)), "$response.body#/id")
        for name, records in (("Export-Id", "exports"), ("Import-Id", "imports")):
            own = list(_members(paths, f"/api/v1/{records}"))
            for method, operation in operations.items():
                if name in operation["responses"].get("200", {}).get("headers", {}):
                    _link(operations, method, "200", own, f"$response.header.{name}")


def _members(paths: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """The routes of what is in a collection: their operation ids, and the parameter that takes its id."""
    for other, operations in paths.items():
        parameters = PARAMETER.findall(other.removeprefix(path))
        if len(parameters) == 1 and other.startswith(f"{path}/{{{parameters[0]}}}"):
            yield from ((operation["operationId"], parameters[0]) for operation in operations.values())


def _link(operations: Document, method: str, status: str, members: list[tuple[str, str]], expression: str) -> None:
    answer = operations.get(method, {}).get("responses", {}).get(status)
    if answer is not None and members:
        links = {name: {"operationId": name, "parameters": {parameter: expression}} for name, parameter in members}
        answer.setdefault("links", {}).update(links)
