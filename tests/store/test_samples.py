"""Samples and the whole check of a body, which needs classes that know their collections."""

import pytest

from service.api.dependencies import Services
from service.documents.registry import DocumentType
from service.samples import Sampler
from service.store.schemas import validate_body
from tests.conftest import TYPES

IDS = {"users": ["0123456789abcdef01234567", "0123456789abcdef01234568"]}


@pytest.mark.parametrize("ids", [{}, IDS], ids=["with nobody to refer to", "with references"])
@pytest.mark.parametrize("document_type", TYPES, ids=lambda document_type: document_type.name)
def test_every_sample_is_valid(services: Services, document_type: DocumentType, ids: dict[str, list[str]]) -> None:
    for body in Sampler(document_type, ids=ids).bodies(400):
        stored = validate_body(document_type.whole, body)

        assert set(body) <= set(stored)
