"""Two other ways to serve users, to measure ours beside: as the tutorials write it, and with nothing at all.

    uvicorn --app-dir scripts --factory bench_services:plain
    uvicorn --app-dir scripts --factory bench_services:bare

BENCH_URI and BENCH_DATABASE say which database.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any

import orjson
from beanie import Document, PydanticObjectId, init_beanie
from bson import ObjectId
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, EmailStr
from pymongo import AsyncMongoClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

URI, DATABASE = os.environ["BENCH_URI"], os.environ["BENCH_DATABASE"]


class Address(BaseModel):
    """As in ours."""

    street: str
    city: str
    zipcode: str | None = None
    country: str


class Profile(BaseModel):
    """As in ours."""

    bio: str | None = None
    birthday: date | None = None
    phone: str | None = None
    addresses: list[Address] = []


class User(Document):
    """As in ours."""

    name: str
    email: EmailStr
    age: int | None = None
    is_active: bool = True
    tags: list[str] = []
    profile: Profile | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    revision: int = 1

    class Settings:
        """The same collection."""

        name = "users"


def plain() -> FastAPI:
    """FastAPI and Beanie, as the tutorials have them."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(URI)
        await init_beanie(client[DATABASE], document_models=[User], skip_indexes=True)
        yield
        await client.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/users")
    async def list_users(limit: int = 50, skip: int = 0) -> list[User]:
        return await User.find().skip(skip).limit(limit).to_list()

    @app.get("/users/{user_id}")
    async def get_user(user_id: PydanticObjectId) -> User:
        user = await User.get(user_id)
        if user is None:
            raise HTTPException(404)
        return user

    @app.post("/users", status_code=201)
    async def create_user(user: User) -> User:
        return await user.insert()

    return app


def bare() -> Starlette:
    """Starlette, the driver and orjson: what could be reached at best."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(URI)
        yield {"users": client[DATABASE]["users"]}
        await client.close()

    async def list_users(request: Request) -> Response:
        cursor = request.state.users.find(limit=int(request.query_params.get("limit", "50")))
        return Response(orjson.dumps(await cursor.to_list(), str), media_type="application/json")

    async def get_user(request: Request) -> Response:
        user = await request.state.users.find_one({"_id": ObjectId(request.path_params["user_id"])})
        return Response(orjson.dumps(user, str), media_type="application/json")

    return Starlette(lifespan=lifespan, routes=[Route("/users", list_users), Route("/users/{user_id}", get_user)])
