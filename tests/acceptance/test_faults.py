"""What clients of a service see when something becomes of its replica set: a pause, and no write lost or doubled."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.history import OK, UNAVAILABLE, History, violations
from tests.acceptance.process import Home, until
from tests.acceptance.replica_set import ReplicaSet
from tests.acceptance.workload import Workload

BRIEF_SECONDS, USUAL_SECONDS = 4, 10
"""What an operation may take: one lasts longer than an election here, the other is the setting's default."""

SLACK_SECONDS = 5
"""For what is not the database, on a machine that has other things to do."""


def latest(operation_seconds: float) -> float:
    """A request asks who calls, then does what is asked for: each within the time of an operation."""
    return 2 * operation_seconds + SLACK_SECONDS


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """Three of them."""
    with ReplicaSet(tmp_path_factory.mktemp("set")) as replica_set:
        yield replica_set


@pytest.fixture
def home(three: ReplicaSet, tmp_path: Path) -> Iterator[Home]:
    """A home on all three, with nothing in its database."""
    three.heal()
    with three.primary.client() as client:
        client.drop_database("dossier")
    with three.home(tmp_path) as home:
        yield home


def unavailable(history: History, since: float = 0.0) -> int:
    """How many requests that began since then were told that the database does not answer."""
    return sum(answer.status == UNAVAILABLE for answer in history.answers if answer.started >= since)


def test_no_write_is_lost_or_doubled_when_the_primary_is_killed_steps_down_or_is_paused(
    three: ReplicaSet, home: Home
) -> None:
    service = home.start(operation_timeout_seconds=BRIEF_SECONDS, export_workers=1)
    with Workload(service) as workload:
        workload.wait_for_progress()
        three.primary.kill()
        workload.wait_for_progress()
        three.heal()
        three.step_down()
        workload.wait_for_progress()
        paused = three.primary
        paused.pause()
        try:
            workload.wait_for_progress()
        finally:
            paused.resume()
        workload.wait_for_progress()
        assert three.primary is not paused

    assert violations(workload.history, workload.found(), latest(BRIEF_SECONDS)) == []


@pytest.mark.slow  # two elections; who has stepped down cannot be elected for half a minute
def test_a_step_down_is_no_error(three: ReplicaSet, home: Home) -> None:
    service = home.start(operation_timeout_seconds=USUAL_SECONDS)
    with Workload(service, inserters=8, counters=4) as workload:
        for _ in range(2):
            workload.wait_for_progress()
            three.step_down()
            workload.wait_for_progress()
            three.heal()

    assert unavailable(workload.history) == 0
    assert violations(workload.history, workload.found(), latest(USUAL_SECONDS)) == []


@pytest.mark.slow  # five elections, and each time the killed one comes back
def test_no_write_is_lost_or_doubled_when_one_primary_after_the_other_is_killed(three: ReplicaSet, home: Home) -> None:
    service = home.start(operation_timeout_seconds=USUAL_SECONDS)
    with Workload(service, inserters=8, counters=4, exporters=2, pause=0.05) as workload:
        for _ in range(5):
            workload.wait_for_progress()
            three.primary.kill()
            workload.wait_for_progress()
            three.heal()

    assert violations(workload.history, workload.found(), latest(USUAL_SECONDS)) == []


@pytest.mark.slow  # it is waited for
def test_a_paused_primary_is_given_up_while_its_requests_still_have_time(three: ReplicaSet, home: Home) -> None:
    service = home.start(operation_timeout_seconds=USUAL_SECONDS)
    with Workload(service) as workload:
        workload.wait_for_progress()
        paused = three.primary
        paused_at = time.monotonic()
        paused.pause()
        try:
            workload.wait_for_progress()
        finally:
            paused.resume()

    held_up = [look.answer for look in workload.history.looks if look.answer.ended > paused_at]
    assert any(answer.ended - answer.started > 1 for answer in held_up)
    assert {answer.status for answer in held_up} == {OK}
    assert violations(workload.history, workload.found(), latest(USUAL_SECONDS)) == []


@pytest.mark.slow  # it is waited for
def test_without_a_majority_all_is_refused_in_time_and_it_recovers_by_itself(three: ReplicaSet, home: Home) -> None:
    service = home.start(operation_timeout_seconds=BRIEF_SECONDS)
    with Workload(service, inserters=4) as workload:
        workload.wait_for_progress()
        for node in (three.primary, three.secondaries[0]):
            node.kill()
        lost_at = time.monotonic()
        until(lambda: httpx.get(f"{service.address}/health/ready", timeout=10).status_code == UNAVAILABLE, "not ready")
        assert httpx.get(f"{service.address}/health", timeout=10).status_code == OK
        until(lambda: unavailable(workload.history, lost_at) > 10, "clients are told so")
        assert {answer.status for answer in workload.history.answers if answer.started > lost_at} == {UNAVAILABLE}

        three.heal()

        until(lambda: service.http.get("/health/ready").status_code == OK, "it is ready again")
        workload.wait_for_progress()

    assert violations(workload.history, workload.found(), latest(BRIEF_SECONDS)) == []
