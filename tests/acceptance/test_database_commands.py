"""`dossier database …`, beside a running service."""

from pymongo import MongoClient

from tests.acceptance.process import Home, Service


def rows(output: str) -> list[list[str]]:
    """The cells of a printed table."""
    return [[cell.strip() for cell in line.strip("│\n").split("│")] for line in output.splitlines() if "│" in line]


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
