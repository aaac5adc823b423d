"""`dossier template`."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from service.cli.environment import find_type
from service.cli.output import check_place, chosen_format, draft_of
from service.imports.template import TemplateFormat, template


def write_template(
    type_name: Annotated[str, typer.Argument(metavar="TYPE", help="A type, such as users.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file, which is there once it is whole.")],
    format_name: Annotated[
        str | None,
        typer.Option("--format", help=f"{', '.join(get_args(TemplateFormat))}; by default as the file's name ends."),
    ] = None,
) -> None:
    """Write a file to fill in and import: the columns, and one row as an example. Needs no database."""
    formats: tuple[TemplateFormat, ...] = get_args(TemplateFormat)
    chosen = chosen_format(output, format_name, formats)
    check_place(output)
    content = template(find_type(type_name), chosen)
    with draft_of(output) as file:
        file.write(content)
    print(f"{output}: a template for {type_name}")
