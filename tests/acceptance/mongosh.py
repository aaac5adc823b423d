"""The real mongosh, with the scripts for ops."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MONGOSH = ROOT / ".mongosh" / "node_modules" / ".bin" / "mongosh"
SCRIPTS = ROOT / "scripts" / "mongosh"


def run_scripts(home: Path, uri: str, *names: str, **parameters: object) -> subprocess.CompletedProcess[str]:
    """Scripts one after the other, in one mongosh, as to start it takes a second."""
    files = [argument for name in names for argument in ("--file", str(SCRIPTS / name))]
    return subprocess.run(
        [MONGOSH, "--quiet", "--norc", uri, *files],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(home)} | {name: str(value) for name, value in parameters.items()},
        timeout=120,
    )


def rows(output: str) -> list[list[str]]:
    """The cells of all printed tables, without quotes."""
    lines = [line.strip("│ ") for line in output.splitlines() if line.startswith("│")]
    return [[cell.strip().strip("'") for cell in line.split("│")] for line in lines]
