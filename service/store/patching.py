"""Changes to a JSON document, as clients send them; pure."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import orjson
from jsonpatch import InvalidJsonPatch, JsonPatch, JsonPatchException
from jsonpointer import JsonPointerException, resolve_pointer

from service.errors import Fault, PatchTestFailedError, ValidationFailedError

MAX_OPERATIONS = 1000
MAX_PATCHED_BYTES = 4 * 1024 * 1024
"""What `copy` may make of a document: doubled thirty times, a kilobyte would be a terabyte."""


def merge_patch(target: Any, patch: Any, is_field: Callable[[str], bool] = lambda _: True, prefix: str = "") -> Any:
    """RFC 7396: members of `patch` replace those of `target`, null removes them.

    Where `is_field` says that a dotted path is no field, null stays: so it is refused as any unknown field is.
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        path = f"{prefix}{name}"
        if value is None and is_field(path):
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value, is_field, f"{path}.")
    return merged


def json_patch(target: Any, operations: Any, is_masked: Callable[[str], bool] = lambda _: False) -> Any:
    """RFC 6902: all operations in order, or none.

    `is_masked` says of a pointer whether there are masks: these stand for what is there only as long as they are there.
    Raises ValidationFailedError for what cannot be applied, and PatchTestFailedError for a `test` that fails.
    """
    if not isinstance(operations, list) or len(operations) > MAX_OPERATIONS:
        message = f"an array of at most {MAX_OPERATIONS} operations is expected"
        raise ValidationFailedError([Fault("operations_expected", message, "")])
    if faults := [*_moved_masks(operations, is_masked)]:
        raise ValidationFailedError(faults)
    document = deepcopy(target)
    for position, operation in enumerate(operations):
        try:
            document = _apply(document, operation)
        except InvalidJsonPatch as error:
            raise ValidationFailedError([Fault("patch_not_applicable", str(error), f"/{position}")]) from error
        except (JsonPatchException, JsonPointerException, LookupError, TypeError, ValueError) as error:
            message = "the document has no such place, or something else there"
            raise ValidationFailedError([Fault("patch_not_applicable", message, f"/{position}")]) from error
    return document


def _moved_masks(operations: list[Any], is_masked: Callable[[str], bool]) -> Iterator[Fault]:
    for position, operation in enumerate(operations):
        if isinstance(operation, dict) and operation.get("op") in ("move", "copy"):
            for member in ("from", "path"):
                pointer = operation.get(member)
                if isinstance(pointer, str) and is_masked(pointer):
                    message = "there are masks: what they stand for can be neither moved nor copied"
                    yield Fault("masked_value", message, f"/{position}/{member}")


def _apply(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise InvalidJsonPatch("an operation is an object")
    name, path = operation.get("op"), operation.get("path")
    if name == "test" and isinstance(path, str) and "value" in operation:
        if not is_equal(resolve_pointer(document, path), operation["value"]):
            raise PatchTestFailedError(f"The document has another value at {path!r}.")
        return document
    patched = JsonPatch([operation]).apply(document)
    if name == "copy" and len(orjson.dumps(patched)) > MAX_PATCHED_BYTES:
        raise InvalidJsonPatch("the document gets too large")
    return patched


def is_equal(left: Any, right: Any) -> bool:
    """Equal as JSON (RFC 6902 §4.6), in which 1 equals 1.0, but not true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
