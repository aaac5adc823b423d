"""What Docker is told, held against the settings, the scripts and each other; no engine is asked."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.readme import commands

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = {name: service for name, service in SERVICES.items() if name.startswith("mongodb-")}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
USERS = ("admin", "service", "analyst", "backup", "restore", "monitor")
UNITS = {"m": 2**20, "g": 2**30}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with the script that makes secrets, which has run."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "compose-secrets", tmp_path / "scripts")
    make_secrets(tmp_path)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "scripts" / "compose-secrets", *arguments], check=False, capture_output=True, text=True
    )


def make_secrets(folder: Path) -> str:
    done = run(folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def secret(folder: Path, name: str) -> str:
    return (folder / "secrets" / name).read_text().strip()


def size(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


def option(node: dict[str, Any], name: str) -> str:
    [value] = [argument.partition("=")[2] for argument in node["command"] if argument.startswith(f"--{name}=")]
    return str(value)


def test_only_settings_that_there_are_are_set() -> None:
    settings = {f"DOSSIER_{name.upper()}" for name in Settings.model_fields}

    assert set(SERVICES["dossier"]["environment"]) <= settings
    assert set(re.findall(r"DOSSIER_[A-Z_]+", DOCKERFILE)) <= settings
    assert {secret.upper() for secret in SERVICES["dossier"]["secrets"]} <= settings
    assert SERVICES["dossier"]["environment"]["DOSSIER_SECRETS_DIR"] == "/run/secrets"


def test_every_secret_is_made_and_used_and_none_is_kept_in_git(folder: Path) -> None:
    made = {path.name for path in (folder / "secrets").iterdir()}
    declared = COMPOSE["secrets"]

    assert {name: secret["file"] for name, secret in declared.items()} == {name: f"secrets/{name}" for name in made}
    assert {secret for service in SERVICES.values() for secret in service.get("secrets", [])} == made
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "secrets" not in (ROOT / ".dockerignore").read_text()
    for service in SERVICES.values():
        text = str(service)
        for name in re.findall(r"/run/secrets/(\w+)", text):
            assert name in service["secrets"]


def test_containers_can_read_secrets_and_others_on_the_machine_cannot(folder: Path) -> None:
    place = folder / "secrets"

    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o444}


def test_secrets_are_made_once(folder: Path) -> None:
    place = folder / "secrets"
    before = {path.name: path.read_text() for path in place.iterdir()}
    place.chmod(0o755)
    (place / "dossier_secret_key").unlink()

    said = make_secrets(folder)

    after = {path.name: path.read_text() for path in place.iterdir()}
    assert after.pop("dossier_secret_key") != before.pop("dossier_secret_key")
    assert after == before
    assert re.findall("made (.*)", said) == ["secrets/dossier_secret_key"]
    assert not [text for text in after.values() if text.strip() in said]
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize("is_there", [False, True])
def test_an_address_that_lacks_the_password_is_one_line(folder: Path, *, is_there: bool) -> None:
    place = folder / "secrets"
    (place / "mongodb_service_password").unlink()
    if is_there:
        (place / "mongodb_service_password").write_text("another\n")
    before = {path.name: path.read_text() for path in place.iterdir()}

    done = run(folder)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "scripts/compose-secrets: secrets/dossier_mongodb_uri lacks the password of secrets/mongodb_service_password: "
        "remove it, and run this again\n"
    )
    assert {path.name: path.read_text() for path in place.iterdir()} == before
    (place / "dossier_mongodb_uri").unlink()
    make_secrets(folder)
    assert f":{secret(folder, 'mongodb_service_password')}@" in secret(folder, "dossier_mongodb_uri")


def test_an_address_with_more_options_is_kept(folder: Path) -> None:
    place = folder / "secrets" / "dossier_mongodb_uri"
    mine = place.read_text().strip() + "&maxPoolSize=50"
    place.unlink()
    place.write_text(mine)

    make_secrets(folder)

    assert place.read_text() == mine


def test_each_users_address_is_printed(folder: Path) -> None:
    for user in USERS:
        name = "dossier" if user == "service" else user
        hosts = SERVICES["setup"]["environment"]["MEMBERS"]
        password = secret(folder, f"mongodb_{user}_password")
        assert run(folder, "uri", user).stdout == f"mongodb://{name}:{password}@{hosts}/?replicaSet=rs0\n"
    for arguments, line in [
        (("uri", "nobody"), "there is no secrets/mongodb_nobody_password"),
        (("uri",), "takes nothing, or uri USER"),
    ]:
        done = run(folder, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"scripts/compose-secrets: {line}\n")


def test_the_service_starts_with_these_secrets(folder: Path) -> None:
    chosen = Settings(_env_file=None, environment="production", secrets_dir=folder / "secrets")

    assert chosen.secret_key is not None
    assert chosen.admin_password is not None
    assert chosen.mongodb_uri is not None
    assert chosen.admin_password.get_secret_value() == secret(folder, "dossier_admin_password")
    user, password, hosts = re.fullmatch(  # type: ignore[union-attr]
        r"mongodb://(\w+):(\w+)@([^/]+)/\?replicaSet=rs0", chosen.mongodb_uri.get_secret_value()
    ).groups()
    assert (user, password) == ("dossier", secret(folder, "mongodb_service_password"))
    assert hosts == SERVICES["setup"]["environment"]["MEMBERS"]


def test_the_readmes_commands_run_in_services_that_there_are_as_the_user_for_it(folder: Path) -> None:
    """With a `docker` in the engine's place, which says what it is told."""
    (folder / "docker").write_text('#!/bin/sh\necho "$DOSSIER_MONGODB_URI$URI" "$@"\n')
    (folder / "docker").chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    lines = [line for line in [*commands("With Docker"), *commands("mongosh for ops")] if "docker compose run" in line]

    said = []
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=environment, check=True, capture_output=True, text=True
        )
        said.append(done.stdout.split())

    assert [words[0] for words in said] == [
        run(folder, "uri", user).stdout.strip() for user in ("backup", "restore", "monitor")
    ]
    for words in said:
        assert words[1:5] == ["compose", "run", "--rm", "--no-deps"]
        assert words[words.index("-e") + 1] in {"DOSSIER_MONGODB_URI", "URI"}
        assert words[0] not in words[1:]  # as everybody may read arguments
        assert next(word for word in words if word in SERVICES) == ("setup" if "mongosh" in words else "dossier")
    (folder / "secrets" / "mongodb_monitor_password").unlink()
    failed = subprocess.run(["bash", "-c", lines[-1]], cwd=folder, env=environment, check=False, capture_output=True)
    assert (failed.returncode, failed.stdout) == (1, b"")


def test_three_nodes_with_a_key_file_are_one_set() -> None:
    assert [f"{name}:27017" for name in NODES] == SERVICES["setup"]["environment"]["MEMBERS"].split(",")
    assert len(NODES) == 3
    for name, node in NODES.items():
        assert node["image"] == "mongo:8.0"
        assert option(node, "replSet") == "rs0"
        assert "--bind_ip_all" in node["command"]
        assert node["volumes"] == [f"{name}:/data/db"]
        assert name in COMPOSE["volumes"]


def test_the_key_file_is_mongods_own(tmp_path: Path) -> None:
    """The entrypoint runs as it stands, with the image's own programs in its place."""
    [node, *_] = NODES.values()
    bash, flags, script = node["entrypoint"]
    script = script.replace("$$", "$").replace("/run/", f"{tmp_path}/")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "mongodb_key_file").write_text("key")
    (tmp_path / "docker-entrypoint.sh").write_text('#!/bin/sh\nprintf "%s\\n" "$@"')
    (tmp_path / "docker-entrypoint.sh").chmod(0o755)
    (tmp_path / "install").write_text(
        '#!/bin/sh\n[ "$1 $2 $3 $4" = "-o mongodb -g mongodb" ] && shift 4 && exec /usr/bin/install "$@"\n'
    )
    (tmp_path / "install").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    for _ in range(2):  # as when a container is started again
        done = subprocess.run(
            [bash, flags, script, *node["command"]], check=True, capture_output=True, text=True, env=environment
        )

    assert done.stdout.splitlines() == node["command"]
    key_file = tmp_path / option(node, "keyFile").removeprefix("/run/")
    assert key_file.read_text() == "key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o400


def test_nothing_is_published_but_the_service_and_that_on_this_machine() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["dossier"]
    assert SERVICES["dossier"]["ports"] == ["127.0.0.1:${PORTS:-8000}:8000"]
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert {tuple(node["networks"]) for node in NODES.values()} == {("database",)}


def test_each_waits_for_those_that_it_needs() -> None:
    for name in (*NODES, "dossier"):
        assert {"test", "interval", "timeout", "retries", "start_period"} <= set(SERVICES[name]["healthcheck"])
    assert SERVICES["setup"]["depends_on"] == {name: {"condition": "service_healthy"} for name in NODES}
    assert SERVICES["dossier"]["depends_on"] == {"setup": {"condition": "service_completed_successfully"}}


def test_each_is_started_again_and_has_its_share_of_memory() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == ("on-failure:5" if name == "setup" else "unless-stopped")
        assert service["logging"]["options"]["max-size"]
        assert size(service["mem_limit"]) >= 512 * 2**20
    for node in NODES.values():  # connections, and mongosh of the health check, come on top of the cache
        assert size(node["mem_limit"]) >= float(option(node, "wiredTigerCacheSizeGB")) * 2**30 + 400 * 2**20
    grace = int(SERVICES["dossier"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["shutdown_grace_seconds"].default


def test_the_set_up_runs_on_the_first_nodes_own_machine_with_all_that_its_scripts_need() -> None:
    setup = SERVICES["setup"]
    scripts = [Path(path).name for path in re.findall(r'"(/opt/mongosh/[^"]+\.js)"', DOCKERFILE)]

    assert setup["network_mode"] == f"service:{next(iter(NODES))}"
    assert "mongodb://127.0.0.1:27017/?directConnection=true" in DOCKERFILE
    assert scripts == ["init-replica-set.js", "create-users.js"]
    in_image = re.findall(r"^ENV (\w+)=/opt/mongosh/views.json", DOCKERFILE, re.MULTILINE)
    given = {*setup["environment"], *in_image}
    needed = {"MEMBERS", "VIEWS_FILE"} | {f"{user.upper()}_PASSWORD_FILE" for user in USERS}
    texts = "".join((ROOT / "scripts" / "mongosh" / script).read_text() for script in scripts)
    assert given >= needed
    assert given - needed <= set(re.findall(r"process\.env\.(\w+)", texts))


def test_the_set_elects_within_what_a_request_waits() -> None:
    milliseconds = int(SERVICES["setup"]["environment"]["ELECTION_TIMEOUT_MS"])

    assert milliseconds < Settings.model_fields["operation_timeout_seconds"].default * 1000


def test_nodes_that_are_up_are_not_often_asked_for_their_health() -> None:
    for node in NODES.values():
        check = node["healthcheck"]
        assert check["test"][1] == "mongosh"  # a second of a core
        assert (check["interval"], check["start_interval"]) == ("30s", "5s")


def test_each_image_is_a_stage_of_the_dockerfile_and_the_service_comes_last() -> None:
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)

    assert len(stages) == DOCKERFILE.count("\nFROM ")
    assert {service["build"]["target"] for service in SERVICES.values() if "build" in service} == {"setup", "service"}
    assert stages[-1] == "service"
    assert set(re.findall(r"--from=(\w+)", DOCKERFILE)) <= set(stages)


def test_the_image_runs_as_nobody_special_and_has_what_it_copies() -> None:
    taken = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()]

    assert "\nUSER dossier\n" in DOCKERFILE
    assert "HEALTHCHECK" in DOCKERFILE
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name
            assert name in taken
