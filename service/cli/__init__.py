"""The `dossier` command."""

import sys
from typing import NoReturn

import typer

from service.cli import accounts, backup, database, export, import_file, keys, seed, serve, template
from service.cli.terminal import CommandError, in_one_line
from service.errors import InternalError, ServiceError, StartupError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command("serve")(serve.serve)
app.command("export")(export.export_documents)
app.command("import")(import_file.import_file)
app.command("backup")(backup.back_up)
app.command("restore")(backup.restore)
app.command("template")(template.write_template)
app.command("seed")(seed.seed_documents)
app.add_typer(accounts.app, name="accounts")
app.add_typer(database.app, name="database")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command; whatever can be foreseen ends it with one clear line and status 1."""
    try:
        app()
    except (CommandError, StartupError) as error:
        _fail(str(error))
    except InternalError as error:
        _fail(f"MongoDB says: {error.__cause__}" if error.__cause__ else error.detail)
    except ServiceError as error:
        _fail(in_one_line(error.members()))


def _fail(line: str) -> NoReturn:
    print(f"dossier: {line}", file=sys.stderr)
    raise SystemExit(1)
