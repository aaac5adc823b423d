"""Measures what many sign-ins at once, each to an account and from an address of its own, do to everybody else."""

import asyncio
import time
from dataclasses import dataclass

from bench_exports import peak_memory, used_bytes

from tests.acceptance.many_sign_ins import add_accounts, percentile_99, run, watch_health

ALONE_SECONDS = 5.0
OK = 200


@dataclass(frozen=True, slots=True)
class SignIns:
    """What was measured."""

    lasted_seconds: float
    health_seconds: float
    """The 99th percentile meanwhile."""
    health_alone_seconds: float
    mebibytes: float
    """Above what the service had before."""


def measure(address: str, pid: int, uri: str, database: str, password: str) -> SignIns:
    """Watch /health alone, and beside the sign-ins."""
    names = add_accounts(uri, database)
    is_over_at = time.monotonic() + ALONE_SECONDS
    alone = asyncio.run(watch_health(address, lambda: time.monotonic() > is_over_at))
    with peak_memory(pid, used_bytes(pid)) as memory:
        done = run(address, names, password)
    assert done.statuses == [OK] * len(names)
    return SignIns(done.lasted_seconds, percentile_99(done.watched), percentile_99(alone), memory[0])
