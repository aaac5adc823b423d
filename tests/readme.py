"""What the README lets its reader run."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def commands(section: str) -> list[str]:
    """Those of a subsection, in the order in which they stand."""
    [text] = re.findall(rf"^### {section}\n(.*?)^##", README, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return "".join(blocks).replace("\\\n", " ").splitlines()
