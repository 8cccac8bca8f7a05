"""The report page: a dossier as HTML that needs no network and runs no scripts."""
