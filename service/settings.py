"""What can be set from outside: environment variables that start with `DOSSIER_`, or a `.env` file."""

import re
import warnings
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from unicodedata import normalize
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    DirectoryPath,
    Field,
    IPvAnyNetwork,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import from_json
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

MIN_SECRET_BYTES = 32  # RFC 7518 §3.2: an HS256 key is at least as long as the hash
MIN_DISTINCT_BYTES = 8
"""Of a secret: a random one has far more, one character or `changeme` again and again has fewer."""

USERNAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
DEFAULT_CLIENT = "dossier"
"""What a client is called that does not say who it is; so no account has this name."""

MIN_PASSWORD_LENGTH = 8
MAX_PASSWORD_LENGTH = 128
MAX_DECOMPOSED_LENGTH = 4
"""How many characters become one at most when they are composed: U+1F82 is a letter and three marks."""

SCOPE_PATTERN = r"^(\*|(\*|[a-z][a-z0-9_-]*):(\*|[a-z]+))$"

KeyAlgorithm = Literal["EdDSA", "ES256", "RS256"]
"""What key pairs sign tokens by (RFC 7518 §3.1, RFC 8037 §3.1)."""


def _check_scope_pattern(pattern: str) -> str:
    if not re.fullmatch(SCOPE_PATTERN, pattern):
        raise ValueError("must be a scope or a pattern: users:read, *:read, users:*, *")
    return pattern


def _check_secret(name: str, secret: SecretStr | None) -> None:
    """Raises ValueError for one that can be guessed."""
    text = secret.get_secret_value().encode() if secret else None
    if text is not None and len(text) < MIN_SECRET_BYTES:
        raise ValueError(f"{name} has {len(text)} bytes, {MIN_SECRET_BYTES} are needed: try `openssl rand -hex 32`")
    if text is not None and len(set(text)) < MIN_DISTINCT_BYTES:
        raise ValueError(f"{name} can be guessed: try `openssl rand -hex 32`")


def _check_username(username: str) -> str:
    if username == DEFAULT_CLIENT:
        raise ValueError(f"must not be {DEFAULT_CLIENT}, which stands for clients without a name")
    return username


ScopePattern = Annotated[str, AfterValidator(_check_scope_pattern)]
Word = Annotated[str, StringConstraints(pattern=r"^\S{1,512}$")]


def normalised_password(text: str) -> str:
    """The password in the one form in which it is measured, hashed and checked.

    NFKC, as keyboards differ in how they write `é` (NIST SP 800-63B §3.1.1.2). What is too long in any form stays as it
    is, as the time to normalise grows with the square of a text's length.
    """
    return text if len(text) > MAX_PASSWORD_LENGTH * MAX_DECOMPOSED_LENGTH else normalize("NFKC", text)


def _split_url(url: str) -> SplitResult:
    """The parts of an http(s) address that names nobody. Raises ValueError."""
    parts = urlsplit(url)
    is_whole = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    if not is_whole or any(character.isspace() for character in url):
        raise ValueError("must be http://… or https://…, with a host")
    if "@" in parts.netloc or "#" in url:
        raise ValueError("must have no user, password or fragment in it")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TrustedIssuer(BaseModel):
    """Somebody else whose access tokens are taken, and what their scopes are here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # A caller from elsewhere is known as `issuer|sub`, so that the first stroke has to end the issuer.
    issuer: Annotated[str, StringConstraints(pattern=r"^[^\s|]{1,512}$")]
    """The tokens' `iss`, to the letter."""
    audience: Word
    """What their `aud` has to name."""
    jwks: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """Where their public keys are (RFC 7517): an https address, http on this machine, or a file's path."""
    scope_claim: Word = "scope"
    """The claim that holds scopes: a list, or one text with blanks between."""
    username_claim: Word = "preferred_username"
    """The claim that names the caller; where it is missing, `sub` does."""
    scopes: Annotated[dict[Word, Annotated[list[ScopePattern], Field(min_length=1)]], Field(min_length=1)]
    """From their scopes to ours, or to patterns of ours."""
    algorithms: Annotated[frozenset[KeyAlgorithm], Field(min_length=1)] = frozenset({"EdDSA", "ES256", "RS256"})
    """What their keys may sign by."""

    @property
    def jwks_path(self) -> Path | None:
        """The file, if it is one."""
        return None if "://" in self.jwks else Path(self.jwks)

    @field_validator("jwks")
    @classmethod
    def _keys_come_unchanged(cls, jwks: str) -> str:
        if "://" in jwks:
            parts = _split_url(jwks)
            if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
                raise ValueError("must be https://…, as anybody on the way could change the keys")
        return jwks


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


T = TypeVar("T")
Listed = Annotated[tuple[T, ...] | None, NoDecode, BeforeValidator(_split)]
"""Values between commas; None where there is nothing set."""

HostName = Annotated[str, Field(pattern=r"^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])$")]
"""Without a port."""

Origin = Annotated[str, Field(pattern=r"^https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$")]
"""As browsers write it (RFC 6454 §6.2): in lower case, with nothing behind the port. `null` could be anybody."""


class _SecretFiles(SecretsSettingsSource):
    """The files of the folder that the environment or `.env` names; of bad ones the folder's own check tells."""

    def __call__(self) -> dict[str, Any]:
        """The settings that are there."""
        self.secrets_dir = self.current_state.get("secrets_dir")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            try:
                return super().__call__()
            except (OSError, UserWarning, ValueError):
                return {}


class Settings(BaseSettings):
    """Read once, at start; nothing changes them afterwards."""

    model_config = SettingsConfigDict(
        env_prefix="DOSSIER_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # there are secrets in it
    )

    environment: Literal["development", "production"] = "development"
    """In production nothing is made up: no embedded MongoDB and no generated secret."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    workers: int = Field(default=1, ge=1, le=64)
    """How many processes serve; each has its own limits, and its own processes for exports."""

    public_url: str | None = None
    """The address that clients use, behind a proxy say, and the issuer of tokens; unset: `http://HOST:PORT`."""

    data_dir: Path = Path(".data")
    """Where the embedded MongoDB and the generated secret key are kept."""

    secrets_dir: DirectoryPath | None = None
    """Folder whose files are settings, such as `dossier_secret_key`; what is set otherwise comes first."""

    mongodb_uri: SecretStr | None = None
    """`mongodb://…` of a replica set; unset in development: an embedded server is started."""

    mongodb_database: str = Field(default="dossier", pattern=r"^[A-Za-z0-9_-]{1,38}$")
    """Name of the database."""

    secret_key: SecretStr | None = None
    """Signs access tokens; at least 32 bytes. Unset in development: made once, kept in the data directory."""

    keys_dir: Path | None = None
    """Folder of PEM key pairs that sign access tokens in place of the secret key; see `dossier keys`."""

    trusted_issuers: Annotated[tuple[TrustedIssuer, ...] | None, NoDecode] = None
    """Whose access tokens are taken too: a JSON list of `issuer`, `audience`, `jwks`, `scopes` and more."""

    admin_username: Annotated[str, AfterValidator(_check_username)] = Field(default="admin", pattern=USERNAME_PATTERN)
    """Name of the account that is made when there is none."""

    admin_password: SecretStr | None = None
    """Its password, 8 to 128 characters; unset in development: generated and printed once."""

    token_lifetime_seconds: int = Field(default=3600, ge=60, le=86_400)
    """How long an access token is good for."""

    password_grant: bool = True
    """Whether a name and a password get a token; else only clients, refresh tokens and trusted issuers do."""

    refresh_token_days: float = Field(default=14.0, gt=1, le=365)
    """How long a refresh token is good for, from its sign-in or the use of the one before it."""

    query_time_limit_seconds: float = Field(default=2.0, gt=0, le=60)
    """How long MongoDB may work on one list; past it the answer is `query_too_expensive`."""

    operation_timeout_seconds: float = Field(default=10.0, gt=0, le=120)
    """How long any other request waits for MongoDB, elections included; past it the answer is 503."""

    limit_concurrency: int = Field(default=100, ge=1, le=100_000)
    """How many requests one process does at once; more get 503. Those whose body is still on its way don't count."""

    header_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    """How long a client may take to send a request's headers; past it the answer is 408."""

    body_stall_seconds: float = Field(default=20.0, gt=0, le=600)
    """How long a client may send nothing of a body, or too little; past it the answer is 408."""

    body_min_bytes_per_second: int = Field(default=1000, ge=1, le=1_000_000)
    """How much of a body is enough, as an average over that time."""

    keep_alive_seconds: int = Field(default=65, ge=1, le=3600)
    """How long a connection may be idle between two requests; longer than a load balancer's own limit, often 60 s."""

    max_body_bytes: int = Field(default=1_048_576, ge=1024, le=16_777_216)
    """Largest JSON body; past it the answer is 413."""

    exports_at_once: int = Field(default=4, ge=1, le=50)
    """How many exports one process runs together; more get 429."""

    export_workers: int | None = Field(default=None, ge=1, le=64)
    """How many processes encode files; unset: one for each core."""

    export_from_secondaries: bool = False
    """Whether exports are read from secondaries where there are any: off the primary's back, some moments behind it."""

    export_record_days: float = Field(default=30.0, gt=0, le=3650)
    """How long it is remembered what was exported, by whom, and what became of it."""

    export_stall_seconds: float = Field(default=60.0, gt=0, le=3600)
    """How long an export, or any other answer, waits for a client that reads nothing; then the connection breaks."""

    imports_at_once: int = Field(default=2, ge=1, le=50)
    """How many imports one process runs together; more get 429."""

    import_max_bytes: int = Field(default=104_857_600, ge=1024, le=10_737_418_240)
    """Largest file to import; past it the answer is 413."""

    import_max_rows: int = Field(default=2_000_000, ge=1, le=16_000_000)
    """Most rows in one file."""

    import_record_days: float = Field(default=30.0, gt=1, le=3650)
    """How long it is remembered what was imported, by whom, and what became of it."""

    audit_days: float = Field(default=365.0, gt=0, le=3650)
    """How long the audit trail is kept."""

    sign_in_failures_per_account: int = Field(default=10, ge=1, le=10_000)
    """How many sign-ins to one account may fail in a window; past it the answer is 429."""

    sign_in_failures_per_address: int = Field(default=100, ge=1, le=1_000_000)
    """How many from one address, of IPv6 from one /64."""

    sign_in_window_seconds: int = Field(default=300, ge=1, le=86_400)
    """How long a failed sign-in counts, from the window's first."""

    rate_limit_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    """How many reads, writes, files and account requests, of each, an account may send a minute; unset: any number."""

    trusted_proxies: Listed[IPvAnyNetwork] = None
    """Addresses or networks, between commas, of proxies whose X-Forwarded-For and -Proto are believed; unset: none."""

    allowed_hosts: Listed[HostName] = None
    """Names, between commas, that a Host header may have; unset: any, as nothing is built from it."""

    cors_origins: Listed[Origin] = None
    """Origins, between commas, whose pages may call the API from a browser; unset: none."""

    docs: bool = True
    """Whether `/docs` and `/openapi.json` are served."""

    shutdown_grace_seconds: int = Field(default=10, ge=0, le=300)
    """How long running requests and exports may go on after SIGTERM."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important line that is logged."""

    log_format: Literal["auto", "json", "text"] = "auto"
    """How lines look; auto: text on a terminal, else JSON."""

    slow_command_seconds: float = Field(default=0.2, ge=0, le=3600)
    """A command to MongoDB that takes longer is logged, without values."""

    metrics_token: SecretStr | None = None
    """The bearer token with which `/metrics` can be read, at least 32 bytes; unset: there is no such address."""

    metrics_host: str | None = None
    """Address to serve metrics on to whoever reaches it; unset: that of the service."""

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of its own for metrics, without a token; 0 takes a free one; unset: none."""

    traces: bool = False
    """Whether spans are sent by OpenTelemetry, as the OTEL_ variables of its SDK say; needs the extra `traces`."""

    sentry_dsn: SecretStr | None = None
    """Where failures of the service are reported; needs the extra `sentry`; unset: nowhere."""

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def issuer(self) -> str:
        """Who issues our tokens (RFC 8414 §2), and where clients find the service."""
        return self.public_url or self.address

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - its folder would be fixed beforehand
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Files come last, as an earlier one says where they are."""
        return init_settings, env_settings, dotenv_settings, _SecretFiles(settings_cls)

    @field_validator("secrets_dir")
    @classmethod
    def _secrets_can_be_read(cls, folder: Path | None) -> Path | None:
        if folder is None:
            return None
        faults = []
        for name in cls.model_fields:
            path = folder / f"dossier_{name}"
            try:
                path.read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            except OSError as error:
                faults.append(f"{path.name} cannot be read: {error.strerror}")
            except ValueError:
                faults.append(f"{path.name} is no text in UTF-8")
            else:
                if folder.resolve() not in path.resolve().parents:
                    faults.append(f"{path.name} leads out of it")
        if faults:
            raise ValueError("; ".join(faults))
        return folder

    @field_validator("public_url")
    @classmethod
    def _public_url_is_a_base(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if _split_url(url).query or url.endswith("?"):
            raise ValueError("must have no query in it")
        return url.rstrip("/")

    @field_validator("trusted_issuers", mode="before")
    @classmethod
    def _read_json(cls, value: Any) -> Any:
        return from_json(value) if isinstance(value, str) else value

    @field_validator("trusted_issuers")
    @classmethod
    def _no_issuer_twice(cls, issuers: tuple[TrustedIssuer, ...] | None) -> tuple[TrustedIssuer, ...] | None:
        names = [trusted.issuer for trusted in issuers or ()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} must not come twice")
        return issuers

    @model_validator(mode="after")
    def _nothing_made_up_in_production(self) -> Self:
        _check_secret("DOSSIER_SECRET_KEY", self.secret_key)
        _check_secret("DOSSIER_METRICS_TOKEN", self.metrics_token)
        if self.admin_password is not None:
            length = len(normalised_password(self.admin_password.get_secret_value()))
            if not MIN_PASSWORD_LENGTH <= length <= MAX_PASSWORD_LENGTH:
                raise ValueError(
                    f"DOSSIER_ADMIN_PASSWORD has {length} characters,"
                    f" {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} are needed"
                )
        if self.environment == "production":
            if self.secret_key is None:
                raise ValueError("DOSSIER_SECRET_KEY is needed in production: try `openssl rand -hex 32`")
            if self.mongodb_uri is None:
                raise ValueError("DOSSIER_MONGODB_URI is needed in production: no embedded MongoDB is started there")
        return self
