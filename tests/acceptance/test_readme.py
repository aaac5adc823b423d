"""The README does what it says: its curl examples run as they stand, its document type keeps the contract."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import openpyxl
import pytest

from tests.acceptance.process import DOSSIER, PASSWORD, Home

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks in this language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_the_curl_examples_run_as_they_stand(home: Home) -> None:
    service = home.launch(admin_password=PASSWORD)
    service.wait_until_ready()
    setup, *examples = blocks("sh")
    setup = setup.replace("http://127.0.0.1:8000", service.address)
    setup = setup.replace("the password that scripts/serve printed", PASSWORD)
    script = "\n".join([setup, *examples])

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=home.directory,
        env=home.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "HTTP/1.1 201 Created" in done.stdout
    assert done.stdout.count('"city":"東京"') >= 3
    assert '"age":42' in done.stdout
    assert '"code":"revision_mismatch"' in done.stdout
    [user] = csv.DictReader((home.directory / "users.csv").read_text("utf-8-sig").splitlines())
    assert (user["name"], user["age"]) == ("小中 健一", "42")
    sheet = openpyxl.load_workbook(home.directory / "users.xlsx").active
    assert sheet is not None
    assert sheet.max_row == 3


@pytest.mark.slow  # the whole contract once more
def test_the_third_type_costs_one_file_and_keeps_the_contract(tmp_path: Path) -> None:
    for name in ("service", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    [source] = [block for block in blocks("python") if "(Record.Settings)" in block]
    (tmp_path / "service" / "documents" / "customer.py").write_text(source)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract", "-k", "customers"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 50


@pytest.mark.slow  # seven commands, each a process of its own
def test_the_commands_for_validators_and_migrations_run_as_they_stand(tmp_path: Path) -> None:
    [name] = re.findall(r"This one, `(\S+\.py)`", README)
    [migration] = [block for block in blocks("python") if "class Forward" in block]
    for folder in ("migrations", "drafts"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(migration)
    of_release = str(tmp_path / "migrations")
    home = Home(tmp_path, startup=f"import service.migrations; service.migrations.__path__.insert(0, {of_release!r})")
    validators, migrations = [block for block in blocks("") if block.startswith("dossier database ")]
    try:
        home.launch().wait_until_ready()
        environment = home.environment()
        environment["PATH"] = f"{DOSSIER.parent}:{environment['PATH']}"

        done = [
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                check=False,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            for script in (validators, migrations)
        ]
    finally:
        home.close()

    assert [(ended.returncode, ended.stderr) for ended in done] == [(0, "")] * 2
    assert re.findall(r"│ users +│ (\w+)", done[0].stdout) == ["present"] * 3
    assert re.findall(rf"│ {name} │ (has[a-z ]+?) +│ ([a-z ]*?) +│", done[1].stdout) == [
        ("has run", ""),
        ("has run", ""),
        ("has run", "has run backward"),
        ("has not run", "has run forward"),
    ]
