"""The report's page: what a dossier says, as HTML that needs no network and runs no script."""
