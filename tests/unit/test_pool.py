"""Worker processes, which are real ones here."""

import asyncio
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.documents.introspection import fields_of
from service.transfer import pool as pool_module
from service.transfer.encoders import ENCODERS
from service.transfer.encoding import FileSpec, FormatName, Piece
from service.transfer.formats import FORMATS
from service.transfer.pool import BUFFER_BYTES, EncoderPool, EncodingError, encode_in_order, encoder_pool
from service.transfer.worker import LENGTH_BYTES, NICENESS
from tests.everything import Everything
from tests.unit.made_up import STARTED_AT, batch_of, file_spec

FIELDS = fields_of(Everything).values()
SPEC = file_spec(FIELDS, "ndjson", paths=("integer", "text"))
NO_BSON = b"no BSON"
LARGE = batch_of(*({"text": "x" * 100_000} for _ in range(120)))
"""Fits into no pipe, and no buffer."""

SOON = 0.05
"""Seconds, where a worker will not end of itself."""


@pytest.fixture(scope="module")
async def pool() -> AsyncIterator[EncoderPool]:
    """Workers that nobody kills."""
    async with encoder_pool(2) as pool:
        yield pool
        assert pool._idle.qsize() == 2


def pickled(spec: FileSpec) -> bytes:
    return pickle.dumps(spec.for_another_process())


def encoded(batch: bytes, spec: FileSpec = SPEC) -> list[Piece]:
    """What the batch is, encoded in this process."""
    return ENCODERS[spec.format_name](spec)(batch)


def batches_of(sizes: Iterable[int]) -> list[bytes]:
    """Batches of so many documents, each with a number of its own."""
    numbers = iter(range(10**9))
    return [batch_of(*({"integer": next(numbers), "text": "x"} for _ in range(size))) for size in sizes]


async def stream_of(batches: Iterable[bytes]) -> AsyncGenerator[bytes]:
    for batch in batches:
        yield batch


async def all_of(batches: list[bytes], pool: EncoderPool, spec: FileSpec = SPEC) -> list[list[Piece]]:
    """The batches through the pool, in order."""
    return [pieces async for pieces in encode_in_order(batches[0], stream_of(batches[1:]), spec, pool)]


def pids(pool: EncoderPool) -> list[int]:
    return sorted(worker._process.pid for worker in pool._all)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(check: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        await asyncio.sleep(0.005)


async def killed(pids: list[int]) -> None:
    """Kill processes, as far as there are any, and wait until they are gone."""
    for pid in filter(is_running, pids):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(map(is_running, pids)), "the workers are gone")


async def encoding_in_a_stopped_worker(pool: EncoderPool, batch: bytes) -> asyncio.Task[list[Piece]]:
    """A batch that the pool's only worker has got, and does not answer."""
    (pid,) = pids(pool)
    os.kill(pid, signal.SIGSTOP)
    task = asyncio.create_task(pool.encode(pickled(SPEC), batch))
    await until(pool._idle.empty, "the worker has the batch")
    return task


@pytest.mark.parametrize("name", FORMATS)
async def test_a_batch_is_what_it_would_be_in_this_process(pool: EncoderPool, name: FormatName) -> None:
    spec = file_spec(FIELDS, name, explode="branches", delimiter="tab", raw=True)
    branch = {"label": "=x", "leaf": {"day": STARTED_AT, "moments": [STARTED_AT]}, "days": [STARTED_AT]}
    batch = batch_of(*({"code": str(number), "branches": [branch] * (number % 3)} for number in range(1500)))

    pieces = await pool.encode(pickled(spec), batch)

    assert sum(piece.rows for piece in pieces) == 2000
    assert pieces == encoded(batch, spec)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 20) | st.integers(0, 3000), min_size=1, max_size=10))
async def test_pieces_come_in_the_order_of_their_batches(pool: EncoderPool, sizes: list[int]) -> None:
    batches = batches_of(sizes)

    found = await all_of(batches, pool)

    data = b"".join(piece.data for pieces in found for piece in pieces)
    assert data == b"".join(piece.data for batch in batches for piece in encoded(batch))


async def test_several_files_are_encoded_at_once(pool: EncoderPool) -> None:
    sizes = random.Random(0)
    files = [batches_of(sizes.choices(range(500), k=20)) for _ in range(5)]
    specs = [file_spec(FIELDS, name, paths=("integer", "code")) for name in ("csv", "json", "ndjson", "xlsx", "csv")]

    found = await asyncio.gather(*(all_of(batches, pool, spec) for batches, spec in zip(files, specs, strict=True)))

    assert found == [
        [encoded(batch, spec) for batch in batches if batch] for batches, spec in zip(files, specs, strict=True)
    ]


async def test_large_documents_go_to_the_workers_in_small_numbers(
    pool: EncoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch,) = batches_of([100])
    monkeypatch.setattr(pool_module, "TASK_BYTES", len(batch) // 10)

    found = await all_of([batch], pool)

    assert 10 <= len(found) <= 12
    assert b"".join(piece.data for pieces in found for piece in pieces) == b"".join(
        piece.data for piece in encoded(batch)
    )


async def test_no_more_is_read_than_keeps_the_workers_busy(pool: EncoderPool) -> None:
    batches = batches_of([10] * 10)
    read = []

    async def rest() -> AsyncGenerator[bytes]:
        for batch in batches[1:]:
            read.append(batch)
            yield batch

    ahead = [len(read) + 1 - found async for found in counted(encode_in_order(batches[0], rest(), SPEC, pool))]

    assert max(ahead) == pool.size
    assert len(ahead) == len(batches)


async def counted(chunks: AsyncIterator[list[Piece]]) -> AsyncIterator[int]:
    number = 0
    async for _ in chunks:
        number += 1
        yield number


async def test_whoever_has_waited_longest_is_next() -> None:
    done = []
    async with encoder_pool(1) as pool:

        async def encode(number: int) -> None:
            await pool.encode(pickled(SPEC), batches_of([20 - number])[0])
            done.append(number)

        await asyncio.gather(*map(encode, range(20)))

    assert done == list(range(20))


async def test_what_fits_into_no_buffer_arrives_whole(pool: EncoderPool) -> None:
    pieces = await pool.encode(pickled(SPEC), LARGE)

    assert len(pieces[0].data) > 2 * BUFFER_BYTES
    assert pieces == encoded(LARGE)


async def test_a_worker_killed_in_between_is_replaced() -> None:
    (batch,) = batches_of([10])
    async with encoder_pool(2) as pool:
        before = pids(pool)
        await killed(before)

        assert await asyncio.gather(*(pool.encode(pickled(SPEC), batch) for _ in range(6))) == [encoded(batch)] * 6
        assert len(pids(pool)) == 2
        assert set(pids(pool)).isdisjoint(before)


@pytest.mark.parametrize("batch", [batch_of({"text": "x"}), LARGE], ids=["small", "large"])
async def test_a_batch_whose_worker_is_killed_is_encoded_by_another(batch: bytes) -> None:
    async with encoder_pool(1) as pool:
        before = pids(pool)
        task = await encoding_in_a_stopped_worker(pool, batch)

        await killed(before)

        assert await task == encoded(batch)
        assert pids(pool) != before


async def test_whenever_workers_are_killed_no_batch_is_lost() -> None:
    batches = batches_of(random.Random(0).choices(range(300), k=40))
    found = []
    async with encoder_pool(2) as pool:
        async for pieces in encode_in_order(batches[0], stream_of(batches[1:]), SPEC, pool):
            found.append(pieces)
            # Not so often that one batch could meet two of these.
            if len(found) % 8 == 4:
                await killed(pids(pool))

        assert pool._idle.qsize() == len(pids(pool)) == 2
    assert found == list(map(encoded, batches))


async def test_a_batch_that_two_workers_die_of_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    (batch,) = batches_of([1])
    program = shutil.which("true")  # which ends at once
    assert program is not None
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", program)
        async with encoder_pool(1) as pool:
            with pytest.raises(EncodingError, match="two workers died"):
                await pool.encode(pickled(SPEC), batch)

            patch.undo()
            assert await pool.encode(pickled(SPEC), batch) == encoded(batch)


@pytest.mark.parametrize(
    ("spec", "batch", "reason"),
    [
        (pickled(SPEC), NO_BSON, "bson.errors.InvalidBSON"),
        (pickled(SPEC), batch_of({"text": "x"})[:-1], "bson.errors.InvalidBSON"),
        (b"no pickle", b"", "UnpicklingError"),
        (pickled(file_spec(FIELDS, paths=("unknown",))), b"", "KeyError: 'unknown'"),
    ],
    ids=["no BSON", "half", "no pickle", "no field"],
)
async def test_an_error_says_where_it_was_and_the_worker_goes_on(
    pool: EncoderPool, spec: bytes, batch: bytes, reason: str
) -> None:
    before = pids(pool)

    with pytest.raises(EncodingError) as caught:
        await pool.encode(spec, batch)

    assert str(caught.value).startswith("Traceback")
    assert "worker.py" in str(caught.value)
    assert reason in str(caught.value)
    assert await pool.encode(pickled(SPEC), batch_of({"integer": 1})) == [Piece(b'{"integer":1}\n', 1)]
    assert pids(pool) == before


async def test_an_error_comes_after_what_was_before_it(pool: EncoderPool) -> None:
    batches = batches_of([1000, 1, 10])
    found: list[list[Piece]] = []

    async def read_all() -> None:
        async for pieces in encode_in_order(batches[0], stream_of([*batches[1:], NO_BSON, *batches]), SPEC, pool):
            found.append(pieces)  # noqa: PERF401 - extend might keep none of them once there is an error

    with pytest.raises(EncodingError, match="InvalidBSON"):
        await read_all()

    assert found == list(map(encoded, batches))
    assert pool._idle.qsize() == pool.size


async def test_an_error_of_the_reader_is_passed_on(pool: EncoderPool) -> None:
    before = pids(pool)

    async def rest() -> AsyncGenerator[bytes]:
        yield batches_of([10])[0]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await anext(encode_in_order(batches_of([1000])[0], rest(), SPEC, pool))

    assert pool._idle.qsize() == pool.size
    assert pids(pool) == before


async def test_whoever_leaves_early_leaves_the_workers_whole(pool: EncoderPool) -> None:
    before = pids(pool)
    batches = batches_of([100] * 10)

    async with aclosing(encode_in_order(batches[0], stream_of(batches[1:]), SPEC, pool)) as pieces:
        assert await anext(pieces) == encoded(batches[0])

    assert pool._idle.qsize() == pool.size
    assert pids(pool) == before
    found = await all_of(batches, pool)

    data = b"".join(piece.data for pieces in found for piece in pieces)
    assert data == b"".join(piece.data for batch in batches for piece in encoded(batch))


async def test_a_worker_that_is_cancelled_in_a_frame_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "END_SECONDS", SOON)
    async with encoder_pool(1) as pool:
        before = pids(pool)
        task = await encoding_in_a_stopped_worker(pool, batch_of({"text": "of another"}))

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.encode(pickled(SPEC), batch_of({"integer": 1})) == [Piece(b'{"integer":1}\n', 1)]
        await until(lambda: not any(map(is_running, before)), "the first one is gone")


async def test_a_file_that_is_cancelled_leaves_a_whole_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "END_SECONDS", SOON)
    batches = batches_of([10] * 10)
    async with encoder_pool(1) as pool:
        (pid,) = pids(pool)
        os.kill(pid, signal.SIGSTOP)
        task = asyncio.create_task(all_of(batches, pool))
        await until(pool._idle.empty, "the worker has the first batch")

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool._idle.qsize() == 1
        found = await all_of(batches, pool)

    data = b"".join(piece.data for pieces in found for piece in pieces)
    assert data == b"".join(piece.data for batch in batches for piece in encoded(batch))


async def test_a_closed_pool_has_no_processes() -> None:
    async with encoder_pool(3) as pool:
        await pool.encode(pickled(SPEC), b"")
        running = pids(pool)
        assert all(map(is_running, running))

    assert len(running) == 3
    assert not any(map(is_running, running))


async def test_a_pool_is_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "END_SECONDS", SOON)
    running: list[int] = []

    async def fail() -> None:
        async with encoder_pool(3) as pool:
            running.extend(pids(pool))
            os.kill(running[0], signal.SIGKILL)
            os.kill(running[1], signal.SIGSTOP)  # does not even see that its input has ended
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert len(running) == 3
    assert not any(map(is_running, running))


async def test_workers_are_nicer_than_the_service(pool: EncoderPool) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    await all_of(batches_of([1] * 10), pool)

    def priorities() -> set[int]:
        return {os.getpriority(os.PRIO_PROCESS, pid) for pid in pids(pool)}

    await until(lambda: priorities() == {min(own + NICENESS, 19)}, "both have started")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_all_is_for_the_service_and_not_for_its_workers(sign: signal.Signals) -> None:
    (batch,) = batches_of([10])
    async with encoder_pool(1) as pool:
        assert await pool.encode(pickled(SPEC), batch) == encoded(batch)
        (pid,) = pids(pool)

        os.kill(pid, sign)

        assert await pool.encode(pickled(SPEC), batch) == encoded(batch)
        assert pids(pool) == [pid]


@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_answers_arrive_whole_whether_python_buffers_them_or_not(
    unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)  # as images have it, so that logs come at once
    async with encoder_pool(1) as pool, asyncio.timeout(30):
        for batch in (b"", batch_of({"text": "x"}), LARGE, batch_of({"text": "y"})):
            assert await pool.encode(pickled(SPEC), batch) == encoded(batch)


@pytest.mark.parametrize(
    "unbuffered",
    ["", "1"],
)
async def test_a_worker_that_was_paused_goes_on_where_it_was(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    monkeypatch.setattr(pool_module, "END_SECONDS", SOON)
    async with encoder_pool(1) as pool:
        (worker,) = pool._all
        (pid,) = pids(pool)
        encoding = asyncio.create_task(pool.encode(pickled(SPEC), LARGE))
        await until(lambda: len(worker._answers._buffer) > LENGTH_BYTES, "the answer has begun")  # type: ignore[attr-defined]

        os.kill(pid, signal.SIGSTOP)  # in the middle of the answer: nothing is read until the next await
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # noqa: ASYNC222 - at once, and the loop must not read meanwhile
        os.kill(pid, signal.SIGCONT)

        async with asyncio.timeout(10 if not unbuffered else 1):
            assert await encoding == encoded(LARGE)


async def test_a_batch_that_is_cancelled_twice_costs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "END_SECONDS", SOON)
    async with encoder_pool(1) as pool:
        (pid,) = pids(pool)
        task = await encoding_in_a_stopped_worker(pool, b"")
        task.cancel()
        await asyncio.sleep(0)  # it now waits for the worker to end
        task.cancel()
        await asyncio.wait([task])
        os.kill(pid, signal.SIGKILL)

        async with asyncio.timeout(1):
            assert await pool.encode(pickled(SPEC), batch_of({"integer": 1})) == [Piece(b'{"integer":1}\n', 1)]


async def test_a_worker_that_cannot_be_replaced_now_is_replaced_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with encoder_pool(1) as pool:
        await killed(pids(pool))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nowhere")  # or no memory is left, of which the worker had died
            async with asyncio.timeout(1):
                with pytest.raises((EncodingError, OSError)):
                    await pool.encode(pickled(SPEC), b"")

        async with asyncio.timeout(5):
            assert await pool.encode(pickled(SPEC), batch_of({"integer": 1})) == [Piece(b'{"integer":1}\n', 1)]


async def test_workers_are_told_of_no_document_class(pool: EncoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    async def encode(spec: bytes, _batch: bytes) -> list[Piece]:
        told.append(pickle.loads(spec))
        return []

    monkeypatch.setattr(pool, "encode", encode)
    assert any(field.model for field in SPEC.fields.values())

    assert await all_of(batches_of([1]), pool) == [[]]
    assert told == [SPEC.for_another_process()]
    assert not any(field.model for field in told[0].fields.values())


LOADED = """
import pickle, sys
from service.transfer.worker import ENCODERS
specs, batch = pickle.load(sys.stdin.buffer)
print(*[sum(piece.rows for piece in ENCODERS[spec.format_name](spec)(batch)) for spec in specs])
print(*sys.modules)
"""


def test_a_worker_has_loaded_no_more_than_it_needs() -> None:
    names: list[FormatName] = ["csv", "xlsx", "ndjson", "json"]
    specs = [file_spec(FIELDS, name, explode="branches").for_another_process() for name in names]
    batch = batch_of({"branches": [{"leaf": {"day": STARTED_AT}}, {}]})

    result = subprocess.run(
        [sys.executable, "-c", LOADED], input=pickle.dumps((specs, batch)), capture_output=True, check=True
    )

    rows, modules = result.stdout.decode().splitlines()
    assert rows.split() == ["2"] * 4
    loaded = {name.partition(".")[0] for name in modules.split()}
    assert {"service", "bson", "orjson", "isal"} <= loaded
    assert loaded.isdisjoint({"pydantic", "beanie", "pymongo", "openpyxl", "pyarrow", "fastapi", "asyncio", "tests"})
