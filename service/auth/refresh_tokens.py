"""Refresh tokens (RFC 6749 §1.5) as text: opaque to clients, and made anew from what they stand for; pure.

A token is its session, its generation (how many were used before it in that session) and a code over both. So garbage
is refused without asking the database, a token that was used before is told from one that never was, and an answer that
got lost can be given again though nobody keeps the token itself.
"""

import base64
import hashlib
import hmac
import struct
from dataclasses import dataclass

from bson import ObjectId

PLACE = struct.Struct(">12sI")
"""The session's id and the generation."""

CODE_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One that we made."""

    session_id: ObjectId
    generation: int
    text: str

    @property
    def hash(self) -> str:
        """What the database keeps of it: SHA-256, enough for what nobody can guess."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class RefreshTokenMaker:
    """Makes refresh tokens, and takes its own back."""

    def __init__(self, secret_key: str) -> None:
        self._key = hmac.digest(secret_key.encode(), b"refresh token", hashlib.sha256)

    def make(self, session_id: ObjectId, generation: int) -> RefreshToken:
        """The one token of this generation."""
        place = PLACE.pack(session_id.binary, generation)
        code = hmac.digest(self._key, place, hashlib.sha256)
        return RefreshToken(session_id, generation, base64.urlsafe_b64encode(place + code).decode())

    def read(self, text: str) -> RefreshToken | None:
        """The token of which this is the text; None if it is none of ours."""
        try:
            content = base64.urlsafe_b64decode(text.encode("ascii"))
        except ValueError:
            return None
        if len(content) != PLACE.size + CODE_BYTES:
            return None
        session_id, generation = PLACE.unpack_from(content)
        token = self.make(ObjectId(session_id), generation)
        # The whole text, as other texts than the one that we gave would decode to the same bytes.
        return token if hmac.compare_digest(token.text, text) else None

    def next(self, token: RefreshToken) -> RefreshToken:
        """What takes the place of a token that is used."""
        return self.make(token.session_id, token.generation + 1)
