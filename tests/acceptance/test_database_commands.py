"""`dossier database …`, beside a running service."""

import pytest
from pymongo import MongoClient

from tests.acceptance.process import Home, Service


def rows(output: str) -> list[list[str]]:
    """The cells of a printed table."""
    return [[cell.strip() for cell in line.strip("│\n").split("│")] for line in output.splitlines() if "│" in line]


@pytest.mark.slow  # several commands
def test_indexes_are_compared_created_and_never_dropped(service: Service, shared_home: Home) -> None:
    with MongoClient[dict[str, object]](shared_home.mongodb_uri) as client:
        users = client["dossier"]["users"]
        users.drop_index("name_id")
        users.create_index([("age", 1)], name="made_by_hand")

        before = shared_home.run("database", "indexes")
        applied = shared_home.run("database", "indexes", "--apply")

        assert ["users", "name_id", "name, _id", "missing"] in rows(before.stdout)
        assert ["users", "email", "email", "present"] in rows(before.stdout)
        for output in (before.stdout, applied.stdout):
            assert ["users", "made_by_hand", "age", "unknown"] in rows(output)
        assert ["users", "name_id", "name, _id", "present"] in rows(applied.stdout)
        assert {"name_id", "made_by_hand"} <= set(users.index_information())
        users.drop_index("made_by_hand")


def test_validators_are_installed_compared_and_held_against_documents(service: Service, shared_home: Home) -> None:
    with MongoClient[dict[str, object]](shared_home.mongodb_uri) as client:
        database = client["dossier"]
        (installed,) = database.list_collections(filter={"name": "users"})
        try:
            odd = database["users"].insert_one({"name": "Odd", "age": "old"}, bypass_document_validation=True)
            database.command("collMod", "items", validator={})
            database.command("collMod", "users", validationLevel="off")

            before, checked, applied = shared_home.run_in_turn(
                [(("database", "validators", *options), "") for options in ((), ("--check",), ("--apply",))]
            )

            (again,) = database.list_collections(filter={"name": "users"})
        finally:
            database["users"].delete_one({"name": "Odd"})

    assert installed["options"]["validationLevel"] == "moderate"
    assert again["options"] == installed["options"], "as the start has installed it"
    assert (before[0] or 0, checked[0], applied[0] or 0) == (0, 1, 0)
    assert {("items", "missing"), ("users", "different")} <= {tuple(row) for row in rows(before[1])}
    assert ["users", "different", "1"] in rows(checked[1])
    assert ["items", "missing", "0"] in rows(checked[1])
    assert [row[:3] for row in rows(checked[1]) if len(row) == 4] == [
        ["users", str(odd.inserted_id), place] for place in ("/age", "/email")
    ]
    assert {("items", "present"), ("users", "present")} <= {tuple(row) for row in rows(applied[1])}


def test_migrations_are_listed_run_and_taken_back(service: Service, shared_home: Home) -> None:
    for name in ("drafts", "broken"):
        folder = shared_home.directory / name
        folder.mkdir()
        (folder / "1_nothing.py").write_text('"""Nothing to do."""\n')
    (folder / "2_broken.py").write_text("import nothing_of_this_name\n")

    def migrate(folder: str, *options: str) -> tuple[tuple[str, ...], str]:
        """What starts it, with nothing on its standard input."""
        return ("database", "migrate", "--folder", folder, *options), ""

    listed, failed, done = shared_home.run_in_turn(
        [migrate("broken", "--dry-run"), migrate("broken"), migrate("drafts")]
    )
    validators = ("database", "validators")
    compared, again, back, applied = shared_home.run_in_turn(  # by another process, which has the types from elsewhere
        [
            (validators, ""),
            migrate("drafts", "--dry-run"),
            migrate("drafts", "--backward"),
            ((*validators, "--apply"), ""),
        ]
    )

    assert ["1_nothing.py", "has not run", "would run forward"] in rows(listed[1])
    assert (failed[0], failed[1], failed[2].count("\n")) == (1, "", 1)
    assert "nothing_of_this_name" in failed[2]
    assert rows(done[1])[-1] == ["1_nothing.py", "has not run", "has run forward"]
    assert {("items", "present"), ("users", "present")} <= {tuple(row) for row in rows(compared[1])}
    assert rows(again[1])[-1] == ["1_nothing.py", "has run", ""]
    assert rows(back[1])[-1] == ["1_nothing.py", "has run", "has run backward"]
    assert ["users", "present"] in rows(applied[1])


def test_a_query_is_explained(service: Service, shared_home: Home) -> None:
    indexed = shared_home.run("database", "explain", "users", "name__gte=A&name__lt=B&sort=name")
    scanned = shared_home.run("database", "explain", "users", "age__gte=0&sort=age")

    [stages, index, keys, documents, found, milliseconds] = rows(indexed.stdout)[-1]
    assert (index, keys, documents) == ("name_id", documents, keys)
    assert "SORT" not in stages
    assert int(found) <= 50
    assert milliseconds.isdigit()
    assert rows(scanned.stdout)[-1][1] == "none"
    assert "COLLSCAN" in rows(scanned.stdout)[-1][0]


def test_what_cannot_be_explained_is_one_line(service: Service, shared_home: Home) -> None:
    for arguments, word in [(("nothing",), "nothing"), (("users", "nonsense=1"), "nonsense")]:
        done = shared_home.run("database", "explain", *arguments)

        assert done.returncode == 1
        assert done.stdout == ""
        assert word in done.stderr
        assert done.stderr.count("\n") == 1
