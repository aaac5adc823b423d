"""The docs are true: every setting, error code, script and module stands where a reader looks for it."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from service.auth.scopes import ACTIONS
from service.documents.registry import registered_types
from service.errors import FaultyInputError, ServiceError
from service.settings import Settings, TrustedIssuer
from service.store.query import COUNT_MODES
from service.transfer.encoding import DELIMITERS
from service.transfer.formats import FORMATS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
SETTINGS = {f"DOSSIER_{name.upper()}": info for name, info in Settings.model_fields.items()}


def errors_below(parent: type[ServiceError]) -> list[type[ServiceError]]:
    found = [error for child in parent.__subclasses__() for error in [child, *errors_below(child)]]
    return [error for error in found if error is not FaultyInputError]


def test_the_readme_and_the_example_name_every_setting() -> None:
    for text in (README, EXAMPLE):
        assert set(re.findall(r"DOSSIER_[A-Z_]+", text)) == set(SETTINGS)


def test_the_example_shows_the_defaults() -> None:
    shown = dict(re.findall(r"^# (DOSSIER_[A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    for name, info in SETTINGS.items():
        if info.default is not None:
            assert info.annotation is not None
            kind: TypeAdapter[object] = TypeAdapter(info.annotation)
            assert kind.validate_python(shown[name]) == info.default, name
        else:
            assert name == "DOSSIER_MONGODB_URI" or shown[name] == "", name


def test_the_readme_shows_the_defaults() -> None:
    rows = re.findall(r"^\| (`DOSSIER_[^|]+) \|([^|]*)\|", README, re.MULTILINE)
    shown = {
        name.strip("`"): value.strip(" `")
        for names, values in rows
        for name, value in zip(names.split(", "), values.split(", "), strict=True)
    }
    for name, info in SETTINGS.items():
        expected = "" if info.default is None else str(info.default)
        expected = expected.lower() if isinstance(info.default, bool) else expected
        assert shown[name] in {expected, expected.removesuffix(".0")}, name


@pytest.mark.parametrize("error", errors_below(ServiceError), ids=lambda error: error.code)
def test_the_readme_and_the_tree_name_every_error(error: type[ServiceError]) -> None:
    assert f"| `{error.code}` | {error.status} |" in README


def test_the_readme_trusts_an_issuer_that_can_be_trusted() -> None:
    [example] = re.findall(r"^```json\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    chosen = Settings(_env_file=None, trusted_issuers=example)

    assert [trusted.audience for trusted in chosen.trusted_issuers or ()] == ["https://dossier.example"]
    for name in TrustedIssuer.model_fields:
        assert re.search(rf"^\| .*`{name}`.* \|", README, re.MULTILINE), name


def test_the_readme_names_every_script() -> None:
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.suffix}
    line = re.search(r"^scripts/\n +(.*)$", README, re.MULTILINE)
    assert line is not None
    assert set(line[1].split()) == scripts
    for path in (ROOT / "scripts" / "mongosh").iterdir():
        assert f"`{path.name}`" in README, path


def test_the_readme_names_every_module_of_documents_store_and_auth() -> None:
    types = {document_type.document_class.__module__.rpartition(".")[2] for document_type in registered_types()}
    for folder in ("", "documents", "store", "auth"):
        for path in (ROOT / "service" / folder).glob("[!_]*.py"):
            # A type costs one file, and nothing in the README.
            assert path.stem in types or re.search(rf"\b{path.name}\b", README), path


def test_what_is_installed_comes_from_here() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [README, *(path.read_text() for path in (ROOT / "service").rglob("*.py"))]
    named = {
        name
        for text in texts
        for line in re.findall(r"scripts/install((?: [a-z{}]+)+)`?", text)
        for name in line.split()
    }

    assert not re.search(r"pip install\S* ['\"]?dossier", "".join(texts)), "of that name, the public index has another"
    assert {"parquet", "traces", "sentry", "mongosh"} <= named
    assert named <= {*extras, "mongosh", "{name}"}


def test_the_readme_names_scopes_formats_and_options() -> None:
    for word in (*(f"NAME:{action}" for action in ACTIONS), *FORMATS, *DELIMITERS, *COUNT_MODES):
        assert word in README, word


def test_scripts_are_sound_shell() -> None:
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]:
        if path.is_file() and not path.suffix:
            subprocess.run(["bash", "-n", path], check=True)


def test_versions_are_pinned_without_an_index_address() -> None:
    lines = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()

    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line) for line in lines if not line.startswith("#"))
    assert not {"motor", "mongomock-motor", "mongomock"} & {line.partition("==")[0].lower() for line in lines}
