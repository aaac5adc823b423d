"""The indexes of a class, held against those of a collection."""

from service.api.dependencies import Services
from service.documents.registry import DocumentType
from service.documents.user import User
from service.store.indexes import compare_indexes, create_missing

USERS = DocumentType(User)


async def test_an_index_of_the_same_name_with_other_keys_is_different(services: Services) -> None:
    database = services.database.handle.client["dossier-tests-indexes"]
    users = database["users"]
    await users.drop()
    await users.create_index([("age", 1)], name="name_id")
    await users.create_index([("email", 1)], name="email")  # but not unique

    states = {index.index_name: index.state for index in await compare_indexes(database, USERS, 10)}

    assert states == {"email": "different", "name_id": "different", "profile.addresses.city_id": "missing"}
    await create_missing(database, USERS, {"profile.addresses.city_id"})
    states = {index.index_name: index.state for index in await compare_indexes(database, USERS, 10)}
    assert states["profile.addresses.city_id"] == "present"
    assert (await users.index_information())["email"].get("unique") is None
