"""`python -m service` is the `dossier` command."""

from service.cli import main

main()
