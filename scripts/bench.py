"""Measures lists, exports, imports, callers or slow clients: as ratios within one run, and memory above idle.

And faults: what clients see while primaries die, and what an hour's requests leave behind.
"""

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import bench_auth
import bench_exports
import bench_faults
import bench_imports
import bench_lists
import bench_slow_clients
import bench_soak
import httpx
from pydantic import SecretStr

from service.documents.registry import registered_types
from service.documents.user import User
from service.samples import Sampler
from service.settings import Settings
from service.store.embedded import embedded_server
from service.store.paging import CursorSigner
from service.store.preparation import open_ready_database
from service.store.repository import Limits, Repository
from tests.acceptance.many_sign_ins import LIMIT

DATABASE = "bench"
PASSWORD = "bench password"
MAX_BYTES = 2**32
"""Of a file, so that there may be a million rows in it."""


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    choices = ["auth", "exports", "faults", "imports", "lists", "slow-clients"]
    parser.add_argument("what", nargs="?", choices=choices, default="exports")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--minutes", type=float, default=bench_soak.USUAL_MINUTES, help="how long faults' soak lasts")
    arguments = parser.parse_args()
    if arguments.what == "faults":
        sys.exit(_told(bench_faults.measure(arguments.minutes)))
    excesses: list[str] = []
    with tempfile.TemporaryDirectory() as directory, embedded_server(Path(directory)) as uri:
        average = asyncio.run(load(uri, arguments.documents))
        print(f"{arguments.documents:,} users of {average:.0f} bytes of BSON")
        many = {"DOSSIER_TRUSTED_PROXIES": "127.0.0.1", "DOSSIER_LIMIT_CONCURRENCY": str(LIMIT)}
        with service(uri, directory, many if arguments.what == "auth" else {}) as (client, pid):
            if arguments.what == "auth":
                bench_auth.measure(client, pid, uri, DATABASE, PASSWORD)
            elif arguments.what == "lists":
                bench_lists.measure(client, uri, DATABASE)
            elif arguments.what == "slow-clients":
                excesses = bench_slow_clients.measure(client)
            elif arguments.what == "imports":
                bench_imports.measure(client, pid, uri, DATABASE)
            else:
                bench_exports.measure(client, pid, uri, DATABASE)
    sys.exit(_told(excesses))


def _told(excesses: list[str]) -> int:
    """The exit status, once all that must not be has been printed."""
    if excesses:
        print("This must not be:", *excesses, sep="\n  ")
    return 1 if excesses else 0


async def load(uri: str, count: int) -> float:
    """Fill the database; the average size of a document."""
    settings = Settings(mongodb_uri=SecretStr(uri), mongodb_database=DATABASE)
    [users] = [document_type for document_type in registered_types() if document_type.document_class is User]
    async with open_ready_database(settings, [users], []) as database:
        await Repository(users, Limits(60, 60), CursorSigner("bench")).load(Sampler(users).bodies(count))
        statistics = await database.handle.command("collStats", "users")
        return float(statistics["avgObjSize"])


@contextmanager
def service(uri: str, directory: str, settings: Mapping[str, str]) -> Iterator[tuple[httpx.Client, int]]:
    """The service as a process, with these settings beside its usual ones, and a client that has signed in."""
    environment = os.environ | {
        "DOSSIER_MONGODB_URI": uri,
        "DOSSIER_MONGODB_DATABASE": DATABASE,
        "DOSSIER_SECRET_KEY": secrets.token_hex(32),
        "DOSSIER_ADMIN_PASSWORD": PASSWORD,
        "DOSSIER_IMPORT_MAX_BYTES": str(MAX_BYTES),
        **settings,
    }
    command = [Path(sys.executable).parent / "dossier", "serve", "--port", "0"]
    with (
        (Path(directory) / "service.log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            address = next(word.rstrip(",") for word in process.stdout.readline().split() if word.startswith("http"))
            with httpx.Client(base_url=address, timeout=120) as client:
                form = {"grant_type": "password", "username": "admin", "password": PASSWORD}
                token = client.post("/api/v1/auth/token", data=form).raise_for_status().json()["access_token"]
                client.headers["Authorization"] = f"Bearer {token}"
                client.get("/api/v1/users").raise_for_status()
                yield client, process.pid
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
