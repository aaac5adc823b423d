"""What the checker of histories must find: each way in which a history can be wrong, and none in one that is right."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.acceptance.history import (
    Answer,
    Count,
    Download,
    Found,
    History,
    Insert,
    Look,
    Visit,
    longest_pause,
    violations,
)

LIMIT_SECONDS = 5
RECORD = {"state": "complete", "rows": 2, "bytes": 20, "sha256": "ab"}


def answer(started: float, status: int | None, seconds: float = 0.5) -> Answer:
    return Answer(started, started + seconds, status, "2" if status == 503 else None)


def insert(key: str, started: float, status: int | None) -> Insert:
    return Insert(key, answer(started, status))


def look(value: int, started: float) -> Look:
    return Look(value, value + 1, answer(started, 200))


def count(value: int, started: float, status: int | None = 200) -> Count:
    return Count(value, value, answer(started, status), (value, value + 1) if status == 200 else None)


def download(started: float, keys: Sequence[str]) -> Download:
    return Download(answer(started, 200), "e", is_whole=True, keys=keys, size=20, sha256="ab")


def right() -> tuple[History, Found]:
    """With each kind of answer that a fault may bring."""
    history = History(
        [
            insert("a", 0, 201),
            insert("b", 1, 503),
            insert("b", 2, 409),
            insert("c", 3, 503),
            insert("d", 4, 503),
            insert("d", 5, 201),
            insert("e", 6, 503),
        ],
        [look(0, 0), look(1, 2), look(2, 6)],
        [count(1, 1), count(1, 1, 412), count(2, 3, 503), count(3, 7, 200), count(4, 8, 503)],
        [download(2.6, ["a", "b"]), Download(answer(4, 503)), Download(answer(5, 200))],
        [Visit(answer(0, 200)), Visit(answer(1, 503)), Visit(answer(2, 401), 401), Visit(answer(3, 503), 401)],
    )
    return history, Found(["a", "b", "d", "e"], 3, 4, {"e": RECORD})


def test_a_history_with_faults_and_nothing_wrong_passes() -> None:
    assert violations(*right(), LIMIT_SECONDS) == []


def test_what_was_asked_for_without_an_answer_may_have_happened_or_not() -> None:
    history, found = right()

    assert violations(history, replace(found, keys=["a", "b", "c", "d"]), LIMIT_SECONDS) == []
    assert violations(history, replace(found, value=4, revision=5), LIMIT_SECONDS) == []


Spoil = Callable[[History, Found], tuple[History, Found]]


def with_found(**changes: Any) -> Spoil:
    return lambda history, found: (history, replace(found, **changes))


def with_more(*more: Insert | Look | Count | Download | Visit, **changes: Any) -> Spoil:
    """A history in which these happened too."""

    def spoil(history: History, found: Found) -> tuple[History, Found]:
        for one in more:
            {
                Insert: history.inserts,
                Look: history.looks,
                Count: history.counts,
                Download: history.downloads,
                Visit: history.visits,
            }[type(one)].append(one)  # type: ignore[attr-defined]
        return history, replace(found, **changes)

    return spoil


def with_record(**changes: Any) -> Spoil:
    return with_found(records={"e": RECORD | changes})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(with_found(keys=["b", "d"]), "a is lost", id="lost"),
        pytest.param(with_found(keys=["a", "d"]), "b is lost", id="lost though taken"),
        pytest.param(with_found(keys=["a", "a", "b", "d"]), "a is there 2 times", id="doubled"),
        pytest.param(with_found(keys=["a", "b", "d", "z"]), "z was never sent", id="made up"),
        pytest.param(
            with_more(insert("f", 9, 409), keys=["a", "b", "d", "f"]),
            "f was refused though nobody had it",
            id="first try refused",
        ),
        pytest.param(
            with_more(insert("a", 9, 409)), "a was refused though nobody had it", id="refused after a plain answer"
        ),
        pytest.param(with_found(value=1, revision=2), "the register is 1 after 2 counts", id="count lost"),
        pytest.param(with_found(value=5, revision=6), "the register is 5 after 2 counts", id="count doubled"),
        pytest.param(with_found(revision=5), "the register is 3 at revision 5", id="revision does not fit"),
        pytest.param(with_more(count(3, 9)), "3 was counted 2 times", id="lost update"),
        pytest.param(
            with_more(replace(count(4, 9), after=(5, 6)), value=4, revision=5),
            "4 at revision 5 was answered with (5, 6)",
            id="another write shown",
        ),
        pytest.param(
            with_more(count(5, 9), count(5, 9, 503), count(6, 10, 412), count(7, 11), value=7, revision=8),
            "6 is nobody's, and was refused to whoever wrote it",
            id="own write refused",
        ),
        pytest.param(
            with_more(count(5, 9), count(7, 11), count(7, 11, 503), value=7, revision=8), "6 is nobody's", id="skipped"
        ),
        pytest.param(with_more(look(0, 9)), "0 was seen after 3 had been told", id="stale read"),
        pytest.param(with_more(look(1, 3), look(0, 4)), "0 was seen after 1 had been told", id="reads go back"),
        pytest.param(with_more(count(2, 9)), "1 was seen after 3 had been told", id="stale write"),
        pytest.param(with_more(download(2.6, ["a", "a"])), "export e doubles a", id="doubled in a file"),
        pytest.param(with_more(download(2.6, ["a", "e"])), "export e lacks b", id="missing in a file"),
        pytest.param(with_more(download(1, ["a", "c"])), "export e has what was undone: c", id="undone in a file"),
        pytest.param(with_record(state="running"), "export e is", id="record of another state"),
        pytest.param(with_record(rows=3), "export e is", id="record of other rows"),
        pytest.param(with_record(bytes=21), "export e is", id="record of another size"),
        pytest.param(with_record(sha256="ac"), "export e is", id="record of other bytes"),
        pytest.param(with_found(records={}), "export e is", id="no record"),
        pytest.param(with_more(insert("g", 9, 500)), "answered 500", id="500"),
        pytest.param(with_more(Download(answer(9, 404))), "answered 404", id="404"),
        pytest.param(
            with_more(Insert("g", Answer(9, 10, 503))), "answered 503, Retry-After: None", id="503 without Retry-After"
        ),
        pytest.param(with_more(Insert("g", answer(9, 503, 6))), "Insert took 6.0 s", id="late"),
        pytest.param(with_more(replace(look(3, 9), answer=answer(9, 200, 6))), "Look took 6.0 s", id="late read"),
        pytest.param(with_more(Visit(answer(9, 401))), "answered 401", id="new token refused"),
        pytest.param(with_more(Visit(answer(9, 200), 401)), "answered 200", id="revoked token taken"),
        pytest.param(with_more(Insert("g", answer(9, 401))), "answered 401", id="token refused"),
    ],
)
def test_the_checker_finds(spoil: Spoil, said: str) -> None:
    found = violations(*spoil(*right()), LIMIT_SECONDS)

    assert any(violation.startswith(said) for violation in found), found


def test_a_broken_connection_is_an_answer_of_nobodys() -> None:
    history, found = right()

    assert "answered None" in violations(*with_more(insert("c", 9, None))(history, found), LIMIT_SECONDS)[0]


def test_a_pause_lasts_from_the_first_try_to_the_answer() -> None:
    history = History([insert("a", 0, 503), insert("a", 1, 503), insert("a", 2, 409), insert("b", 1, 201)])

    assert longest_pause(history, 0, 1) == 2.5
    assert longest_pause(history, 2.4, 3) == 2.5
    assert longest_pause(history, 2.5, 3) == 0.0


def test_a_pause_without_an_answer_lasts_to_the_end() -> None:
    history = History([insert("a", 1, 503), insert("b", 0, 201), insert("b", 8, 201)])

    assert longest_pause(history, 0, 2) == 7.5


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(
            History(
                looks=[
                    Look(0, 0, answer(1, 503), "0"),
                    Look(1, 1, answer(1, 200), "1"),
                    Look(1, 1, answer(3, 200), "0"),
                ]
            ),
            id="a reader's",
        ),
        pytest.param(
            History(counts=[Count(1, 1, answer(1, 503), client="0"), Count(1, 1, answer(3, 412), client="0")]),
            id="a counter's",
        ),
        pytest.param(History(visits=[Visit(answer(1, 503)), Visit(answer(3, 200))]), id="a visitor's"),
    ],
)
def test_all_clients_have_pauses(history: History) -> None:
    assert longest_pause(history, 0, 9) == 2.5
