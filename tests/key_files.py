"""Keys as files."""

from pathlib import Path

from service.auth.keys import PrivateKey, generate_key, private_pem


def write_key(path: Path, key: PrivateKey | None = None) -> Path:
    """A key pair, by default a new one, in a file that is its owner's alone; the file."""
    path.touch(0o600)
    path.write_bytes(private_pem(key or generate_key("EdDSA")))
    return path
