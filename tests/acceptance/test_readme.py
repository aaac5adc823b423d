"""The README does what it says: its curl examples run as they stand, its document type keeps the contract."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import openpyxl
import pytest

from tests.acceptance.process import PASSWORD, Home

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


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
