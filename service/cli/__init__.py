"""The `dossier` command."""

import typer

from service.cli import accounts, backup, database, export, import_file, keys, seed, serve, template
from service.cli.terminal import CommandError, line_of, warn
from service.errors import ServiceError, StartupError

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
    except (CommandError, StartupError, ServiceError) as error:
        warn(line_of(error))
        raise SystemExit(1) from None
