"""``python -m mixopt``: the command, where its script is not on the path."""

from mixopt.cli import app

app(prog_name="mixopt")
