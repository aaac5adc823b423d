"""A process that encodes: `python -m service.transfer.worker`, with requests on its standard input.

A request is a frame with a pickled FileSpec and a frame with raw BSON; the answer is one frame with pickled pieces, or
with a traceback. A frame is its length, 8 bytes little endian, and so many bytes. The process ends with its input.
"""

import gc
import os
import pickle
import signal
import sys
import traceback
from functools import lru_cache
from typing import BinaryIO

from service.transfer.encoders import ENCODERS
from service.transfer.encoding import Encode, FileSpec, Piece

LENGTH_BYTES = 8
NICENESS = 5
"""Requests come before files."""


def main() -> None:
    """Answer until the input ends."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)  # which are for the service: it may still finish files, and ends this
    os.nice(NICENESS)
    gc.disable()  # encoding makes no cycles, and the search for them takes a fifth of its time
    # Buffered whatever PYTHONUNBUFFERED says: what is not may be read and written in part.
    requests = os.fdopen(sys.stdin.fileno(), "rb", closefd=False)
    answers = os.fdopen(sys.stdout.fileno(), "wb", closefd=False)
    try:
        _serve(requests, answers)
    except BrokenPipeError:
        os._exit(1)  # the service was killed, and nobody is left to hear of it


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while (spec := _read_frame(requests)) is not None and (batch := _read_frame(requests)) is not None:
        try:
            answer: list[Piece] | str = _encoder(spec)(batch)
        except Exception:  # noqa: BLE001 - the service raises it
            answer = traceback.format_exc()
        frame = pickle.dumps(answer)
        answers.write(len(frame).to_bytes(LENGTH_BYTES, "little"))
        answers.write(frame)
        answers.flush()


def _read_frame(stream: BinaryIO) -> bytes | None:
    header = stream.read(LENGTH_BYTES)
    return stream.read(int.from_bytes(header, "little")) if header else None


@lru_cache(maxsize=16)
def _encoder(pickled_spec: bytes) -> Encode:
    spec: FileSpec = pickle.loads(pickled_spec)  # noqa: S301 - from the service, through a pipe of its own
    return ENCODERS[spec.format_name](spec)


if __name__ == "__main__":
    main()
