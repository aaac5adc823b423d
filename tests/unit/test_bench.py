"""What `scripts/bench faults` does not let pass."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return import_module("bench")


def left(bench: Any, mebibytes: float = 100, cursors: int = 0, connections: int = 10) -> Any:
    return bench.bench_soak.Left(mebibytes, cursors, connections)


@pytest.mark.parametrize(("faults", "status"), [([], 0), (["key-1 is lost"], 1)])
def test_its_exit_status_says_whether_anything_was_wrong(
    bench: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    faults: list[str],
    status: int,
) -> None:
    monkeypatch.setattr(bench.bench_faults, "measure", lambda _minutes: faults)
    monkeypatch.setattr(sys, "argv", ["bench", "faults"])

    with pytest.raises(SystemExit) as end:
        bench.main()

    assert end.value.code == status
    assert ("key-1 is lost" in capsys.readouterr().out) == bool(faults)


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ({}, {"mebibytes": 130, "connections": 12}, []),
        ({}, {"mebibytes": 131}, ["31 more mebibytes are left, 30 are allowed"]),
        ({}, {"cursors": 1}, ["1 more cursors are left, 0 are allowed"]),
        ({"cursors": 1}, {"cursors": 1}, ["1 cursors were open 30 s after minute one"]),
        ({}, {"connections": 13}, ["3 more connections are left, 2 are allowed"]),
    ],
)
def test_what_a_soak_leaves_is_told(bench: Any, first: dict[str, int], last: dict[str, int], said: list[str]) -> None:
    assert bench.bench_soak.excesses(left(bench, **first), left(bench, **last)) == said


def test_answers_that_a_soak_should_not_have_are_told_and_those_that_it_should(bench: Any) -> None:
    usual = {(name, statuses[0]): 1 for name, statuses in bench.bench_soak.EXPECTED.items()}
    without_deletions = {key: times for key, times in usual.items() if key[0] != "delete"}

    assert bench.bench_soak.wrong_answers(usual) == []
    assert bench.bench_soak.wrong_answers(usual | {("replace", 412): 1}) == ["replace was answered 412"]
    assert bench.bench_soak.wrong_answers(without_deletions) == ["delete was never answered 204"]
