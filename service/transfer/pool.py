"""Worker processes that encode, so that files use all cores and requests are still answered by the first."""

import asyncio
import pickle
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from service.documents.batches import parts_of
from service.transfer.encoding import FileSpec, Piece
from service.transfer.worker import LENGTH_BYTES

BUFFER_BYTES = 4 * 1024 * 1024
"""An answer that is larger is read with pauses."""

END_SECONDS = 5
"""How long a worker may take to end by itself."""

TASK_BYTES = 1_500_000
"""What a worker gets at once, as BSON: a whole batch of documents of 600 bytes, as each message to a worker costs; no
more, so that memory stays as it is with large documents too."""


class EncodingError(Exception):
    """A batch could not be encoded; has the worker's traceback, or says that two workers died of it."""


class _Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._requests = process.stdin
        self._answers = process.stdout

    @classmethod
    async def start(cls) -> Self:
        """A new one."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # not from whatever folder this was started in
                "-m",
                "service.transfer.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=BUFFER_BYTES,
                start_new_session=True,  # Ctrl-C in a terminal is for whoever started it, who then closes the input
            )
        )

    async def encode(self, spec: bytes, batch: bytes) -> list[Piece]:
        """Have a batch encoded. Raises EncodingError, and OSError or EOFError if the process is gone."""
        for frame in (spec, batch):
            self._requests.write(len(frame).to_bytes(LENGTH_BYTES, "little"))
            self._requests.write(frame)
        await self._requests.drain()
        length = int.from_bytes(await self._answers.readexactly(LENGTH_BYTES), "little")
        answer: list[Piece] | str = pickle.loads(await self._answers.readexactly(length))  # noqa: S301 - our worker's
        if isinstance(answer, str):
            raise EncodingError(answer)
        return answer

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.returncode is not None

    async def end(self) -> None:
        """Let it end, or make it."""
        self._requests.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class EncoderPool:
    """A fixed number of places for workers; each encodes one batch at a time, for whoever has waited longest."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._all: set[_Worker] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._has_ended = False
        self._idle: asyncio.LifoQueue[_Worker | None] = asyncio.LifoQueue()
        """None is a place without a worker, which whoever takes it starts."""

    async def start(self) -> None:
        """Fill all places."""
        for worker in await asyncio.gather(*(self._start_worker() for _ in range(self.size))):
            self._idle.put_nowait(worker)

    async def encode(self, spec: bytes, batch: bytes) -> list[Piece]:
        """Have a batch encoded as a pickled FileSpec says; by another process if the first one dies.

        Raises EncodingError.
        """
        try:
            return await self._encode(spec, batch)
        except (OSError, EOFError):
            try:
                return await self._encode(spec, batch)
            except (OSError, EOFError) as error:
                raise EncodingError("two workers died, or could not be started") from error

    async def end(self) -> None:
        """End all processes."""
        self._has_ended = True
        for worker in list(self._all):
            self._discard(worker)
        await asyncio.gather(*self._ending)

    async def _encode(self, spec: bytes, batch: bytes) -> list[Piece]:
        if self._has_ended:
            raise EncodingError("the service ends")
        worker = await self._idle.get()
        if worker is not None and worker.has_ended:  # while nobody needed it
            self._discard(worker)
            worker = None
        is_usable = False
        try:
            worker = worker or await self._start_worker()
            pieces = await worker.encode(spec, batch)
            is_usable = True
        except EncodingError:
            is_usable = True
            raise
        finally:  # also where this was cancelled, in the middle of a frame
            self._idle.put_nowait(worker if is_usable else None)
            if worker is not None and not is_usable:
                self._discard(worker)
        return pieces

    async def _start_worker(self) -> _Worker:
        worker = await _Worker.start()
        self._all.add(worker)
        return worker

    def _discard(self, worker: _Worker) -> None:
        """End it in a task of its own, so that nobody waits, and nobody who is cancelled leaves it behind."""
        self._all.discard(worker)
        ending = asyncio.create_task(worker.end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


@asynccontextmanager
async def encoder_pool(size: int) -> AsyncIterator[EncoderPool]:
    """So many workers, as long as the context lasts."""
    pool = EncoderPool(size)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.end()


async def encode_in_order(
    first: bytes, rest: AsyncIterator[bytes], spec: FileSpec, pool: EncoderPool
) -> AsyncGenerator[list[Piece]]:
    """The pieces of each batch, in order; the next batches are read and encoded while the first is waited for."""
    pickled_spec = pickle.dumps(spec.for_another_process())
    encoding: deque[asyncio.Task[list[Piece]]] = deque()

    async def tasks() -> AsyncIterator[bytes]:
        for part in parts_of(first, TASK_BYTES):
            yield part
        async for batch in rest:
            for part in parts_of(batch, TASK_BYTES):
                yield part

    try:
        async for task in tasks():
            encoding.append(asyncio.create_task(pool.encode(pickled_spec, task)))
            if len(encoding) > pool.size:
                yield await encoding.popleft()
        while encoding:
            yield await encoding.popleft()
    finally:
        await asyncio.gather(*encoding, return_exceptions=True)  # so that no worker is left in the middle of a frame
