"""What schemathesis has to know that OpenAPI cannot say; its command line loads this file, in a process of its own."""

from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData

BEYOND_JSON_SCHEMA = {
    "invalid_cursor": "opaque, signed and bound to its query",
    "cursor_and_skip": "two parameters that exclude each other",
    "repeated_field": "`name` and `-name` are two words, but one field to sort by",
    "unknown_parameter": "`delimiter`, `bom` and `raw` are for CSV alone, and XLSX is the same operation",
    "needless_parameter": "`sheet` is for XLSX alone, `raw` for CSV, and each is the same operation",
    "refused_pattern": "`q` with `q_mode=regex` follows rules of its own",
    "int_type": "1.0 is an integer to JSON Schema, and a float here",
    "value_error": "validators that a class has in Python, and domains that email-validator knows to be reserved",
    "decimal_max_digits": "the bounds of a number that is written as a string",
    "decimal_max_places": "likewise",
    "decimal_whole_digits": "likewise",
    "greater_than": "likewise",
    "inexact_number": "an integer that a 64-bit float would round",
    "not_storable": "a decimal of 35 digits, a year past 9999 in UTC, an integer past 64 bits in free JSON",
    "a decimal has at most 34 digits and an exponent from -6143 to 6144": "the same in a query",
    "the time is outside of the years 1 to 9999 in UTC": "likewise",
    "invalid_key": "keys in free JSON, below its first level",
    "too_deep": "free JSON again",
    "weak_password": "passwords that everybody tries first",
    "wrong_password": "nobody's current password is published",
    "fixed_field": "a patch may name what stays, as it was",
    "client_expected": "whether it is one stands in the account",
    "missing": "a merge patch may make an object of what was null",
}
"""Codes, and where a code says too little messages, with which valid data is refused, and why the schema allows it."""


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Name some entity tags: of the letters and digits that are tried as headers none is one, so all would be 400."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in {"If-Match", "If-None-Match"}:
                    parameter["schema"] = {"type": "string", "enum": ["*", '"1"', 'W/"2", "3"']}


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether it is one."""
    match failure:
        case AllowHeaderMismatch():
            # PUT, PATCH and DELETE take /users/schema for the address of a document, and answer 404.
            return not case.path.endswith("/schema")
        case AcceptedNegativeData():
            return response.status_code != 412  # If-Match is looked at before the body
        case RejectedPositiveData():
            if case.media_type == "application/json-patch+json":
                return False  # its values may be anything, and what it makes of a document is up to that
            if case.path.endswith("/import") and response.status_code == 422:
                return False  # any bytes are a file to JSON Schema
            if "error" in response.json():  # RFC 6749 §5.2; whether a secret or a token is right, no schema says
                return bool(response.json()["error"] == "invalid_request")
            faults = response.json().get("errors", [response.json()])
            return response.status_code != 412 and not all(
                fault["code"] in BEYOND_JSON_SCHEMA or fault["message"] in BEYOND_JSON_SCHEMA for fault in faults
            )
    return True


@schemathesis.check
def refused_without_scope(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Whoever has a token without scopes gets nothing from a route that asks for one, whatever else they send."""
    schemes = case.operation.definition.raw.get("security", [])
    required = {scope for scheme in schemes for scopes in scheme.values() for scope in scopes}
    is_asked = bool(required) and case.method == case.operation.method.upper()  # other methods are tried too
    if is_asked and response.status_code not in {401, 403}:
        raise AssertionError(f"it asks for {', '.join(required)}, and answers {response.status_code}")
