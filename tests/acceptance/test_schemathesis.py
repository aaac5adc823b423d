"""Another's reading of /openapi.json: every answer to whatever it makes up is as published, and none is a failure."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import everything
from tests.acceptance.process import Home

SCHEMATHESIS = str(Path(sys.executable).parent / "schemathesis")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")


@pytest.fixture
def everything_home(tmp_path: Path) -> Iterator[Home]:
    """Where the tests' own type is served too, from a file that lies beside the others."""
    types = tmp_path / "types"
    types.mkdir()
    (types / "everything.py").write_bytes(Path(everything.__file__).read_bytes())
    home = Home(tmp_path, types)
    try:
        yield home
    finally:
        home.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            ["--max-examples=10", "--exclude-tag=everythings", "--exclude-tag=accounts"], id="registered types"
        ),
        # Not the stateful phase, which goes on from a list to what is in it: the account that asks.
        pytest.param(
            ["--max-examples=10", "--include-tag=accounts", "--phases=examples,coverage,fuzzing"], id="accounts"
        ),
        # The coverage phase goes through each field by itself, and this type has the most.
        pytest.param(
            ["--max-examples=10", "--include-tag=everythings", "--phases=examples,fuzzing,stateful"],
            id="everything",
        ),
        pytest.param(["--max-examples=60", "--exclude-tag=accounts"], id="all at length"),
    ],
)
def test_no_failure_and_no_answer_outside_of_the_schema(everything_home: Home, arguments: list[str]) -> None:
    service = everything_home.start("--sample", "20")

    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"{service.address}/openapi.json", "--checks=all", *arguments),
            *("--header", f"Authorization: Bearer {service.token()}"),
            *("--generation-deterministic", "--continue-on-failure", "--no-color"),
        ],
        check=False,
        cwd=everything_home.directory,  # away from anybody's schemathesis.toml
        env={"HOME": str(everything_home.directory), "SCHEMATHESIS_HOOKS": str(HOOKS)},
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated
    assert int(generated[1]) > 100
    assert [line for line in service.log if line["level"] == "error"] == []  # as of a file that broke off after its 200
