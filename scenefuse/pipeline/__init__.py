"""The room pipeline: the verbs of the command line and of the Python API, about a page each."""
