"""What clients did and heard, and what of that must not be: pure, so that its own tests can show that it finds it.

An answer that never came, or a 503, is no answer: what was asked for may have happened or not. All moments are of one
clock, so that what ended before something else began was known to whoever asked for that.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

CREATED, OK, UNAUTHORIZED, CONFLICT, PRECONDITION_FAILED, UNAVAILABLE = 201, 200, 401, 409, 412, 503
ALLOWED = frozenset({OK, CREATED, CONFLICT, PRECONDITION_FAILED, UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request. Without a status the connection broke, or nothing came in time."""

    started: float
    ended: float
    status: int | None
    retry_after: str | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether nobody can tell by it if something was done."""
        return self.status is None or self.status >= UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Insert:
    """One try to create the document with this key, which one client alone uses."""

    key: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Look:
    """A read of the register."""

    value: int
    revision: int
    answer: Answer
    client: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """A try to set the register to `value`, the one after that of `revision`, which `If-Match` names."""

    value: int
    revision: int
    answer: Answer
    after: tuple[int, int] | None = None
    """The value and the revision that the answer shows."""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """A sign-in, what was asked for with its token, or that token's end."""

    answer: Answer
    expected: int = OK
    """The status that it has if nothing fails; 401, if the token had been revoked before."""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Download:
    """An export, with what is in the file if it ended well."""

    answer: Answer
    export_id: str | None = None
    is_whole: bool = False
    keys: Sequence[str] = ()
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What is there when all is over."""

    keys: Sequence[str]
    value: int
    revision: int
    records: Mapping[str, Mapping[str, Any]]
    """Of exports, by their ids."""


@dataclass(frozen=True, slots=True)
class History:
    """All that happened, in no order. The register began with the value 0 and the revision 1."""

    inserts: list[Insert] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)

    @property
    def quick(self) -> Iterator[Insert | Look | Count | Visit]:
        """All requests but those for files."""
        return chain(self.inserts, self.looks, self.counts, self.visits)

    @property
    def answers(self) -> Iterator[Answer]:
        """Those to all requests."""
        return (request.answer for request in chain(self.quick, self.downloads))


def violations(history: History, found: Found, limit_seconds: float) -> list[str]:
    """All that is wrong, in words; `limit_seconds` is what a request other than a file may take."""
    return [
        *wrong_answers(history),
        *late_answers(history, limit_seconds),
        *wrong_inserts(history, found),
        *wrong_counts(history, found),
        *stale_looks(history),
        *wrong_downloads(history, found),
    ]


def wrong_answers(history: History) -> list[str]:
    """Those that no fault excuses, among them the refusal of a token that was just issued."""
    return [
        f"answered {request.answer.status}, Retry-After: {request.answer.retry_after}: {request}"
        for request in chain(history.quick, history.downloads)
        if request.answer.status not in _allowed(request)
        or (request.answer.status == UNAVAILABLE and not request.answer.retry_after)
    ]


def _allowed(request: Insert | Look | Count | Visit | Download) -> frozenset[int]:
    return frozenset({request.expected, UNAVAILABLE}) if isinstance(request, Visit) else ALLOWED


def late_answers(history: History, limit_seconds: float) -> list[str]:
    """Those that took longer."""
    return [
        f"{type(request).__name__} took {seconds:.1f} s"
        for request in history.quick
        if (seconds := request.answer.ended - request.answer.started) > limit_seconds
    ]


def wrong_inserts(history: History, found: Found) -> list[str]:
    """What is lost, doubled, there though nobody sent it, or refused though nobody else had its key."""
    there = Counter(found.keys)
    tries: dict[str, list[Answer]] = {}
    for insert in sorted(history.inserts, key=lambda insert: insert.answer.started):
        tries.setdefault(insert.key, []).append(insert.answer)
    return [
        *(f"{key} is there {count} times" for key, count in there.items() if count > 1),
        *(f"{key} was never sent" for key in there if key not in tries),
        *(f"{key} is lost" for key in acknowledged(history) if key not in there),
        *(
            f"{key} was refused though nobody had it"
            for key, answers in tries.items()
            for number, answer in enumerate(answers)
            if answer.status == CONFLICT and not any(before.is_unknown for before in answers[:number])
        ),
    ]


def acknowledged(history: History) -> dict[str, float]:
    """When each key was first known to be there: that it was taken already says so as well."""
    moments: dict[str, float] = {}
    for insert in history.inserts:
        if insert.answer.status in {CREATED, CONFLICT}:
            moments[insert.key] = min(insert.answer.ended, moments.get(insert.key, insert.answer.ended))
    return moments


def wrong_counts(history: History, found: Found) -> list[str]:
    """Where the register is not what one count after the other makes it."""
    done = [count for count in history.counts if count.answer.status == OK]
    unknown = [count for count in history.counts if count.answer.is_unknown]
    faults = []
    if not len(done) <= found.value <= len(done) + len(unknown):
        faults.append(f"the register is {found.value} after {len(done)} counts and {len(unknown)} unanswered ones")
    if found.revision != found.value + 1:
        faults.append(f"the register is {found.value} at revision {found.revision}")
    times = Counter(count.value for count in done)
    faults += [f"{value} was counted {number} times" for value, number in times.items() if number > 1]
    faults += [
        f"{count.value} at revision {count.revision + 1} was answered with {count.after}"
        for count in done
        if count.after != (count.value, count.revision + 1)
    ]
    written = times.keys() | {count.value for count in unknown}
    refused = {count.value for count in history.counts if count.answer.status == PRECONDITION_FAILED}
    faults += [
        f"{value} is nobody's, and was refused to whoever wrote it" if value in refused else f"{value} is nobody's"
        for value in range(1, found.value + 1)
        if value not in written
    ]
    return faults


def stale_looks(history: History) -> list[str]:
    """Reads, and writes that were done, on less than somebody had been told before they began."""
    looks = [(look.answer, look.value) for look in history.looks if look.answer.status == OK]
    counts = [(count.answer, count.value) for count in history.counts if count.answer.status == OK]
    told = sorted((answer.ended, value) for answer, value in looks + counts)
    known = list(accumulate((value for _, value in told), max))
    seen = looks + [(answer, value - 1) for answer, value in counts]
    faults = []
    for answer, value in seen:
        before = bisect_left(told, (answer.started,))
        if before and value < known[before - 1]:
            faults.append(f"{value} was seen after {known[before - 1]} had been told")
    return faults


def wrong_downloads(history: History, found: Found) -> list[str]:
    """Files that ended well and are not whole, or not what their record says."""
    moments, there = acknowledged(history), set(found.keys)
    faults = []
    for download in history.downloads:
        if not download.is_whole:
            continue
        times = Counter(download.keys)
        doubled = [key for key, number in times.items() if number > 1]
        missing = [key for key, moment in moments.items() if moment < download.answer.started and key not in times]
        undone = [key for key in times if key not in there]
        for what, keys in (("doubles", doubled), ("lacks", missing), ("has what was undone:", undone)):
            if keys:
                faults.append(f"export {download.export_id} {what} {', '.join(sorted(keys))}")
        wanted = {
            "state": "complete",
            "rows": len(download.keys),
            "bytes": download.size,
            "sha256": download.sha256,
        }
        record = found.records.get(download.export_id or "", {})
        if wanted != {name: record.get(name) for name in wanted}:
            faults.append(f"export {download.export_id} is {wanted}, its record {dict(record)}")
    return faults


def longest_pause(history: History, since: float, until: float) -> float:
    """How long a client waited at most for one that tells what was done, tries together, at some time in between."""
    return max((ended - began for began, ended in _waits(history) if ended > since and began < until), default=0.0)


def _waits(history: History) -> Iterator[tuple[float, float]]:
    """From each first try to the answer, or to the end of all where none came."""
    tries: dict[tuple[type, str], list[Answer]] = {}
    for request in history.quick:
        who = request.key if isinstance(request, Insert) else request.client
        tries.setdefault((type(request), who), []).append(request.answer)
    over = max((answer.ended for answer in history.answers), default=0.0)
    for answers in tries.values():
        began: float | None = None
        for answer in sorted(answers, key=lambda answer: answer.started):
            began = answer.started if began is None else began
            if not answer.is_unknown:
                yield began, answer.ended
                began = None
        if began is not None:
            yield began, over
