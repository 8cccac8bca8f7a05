"""The room pipeline: the verbs of the command line and of the Python API, each about a page."""
