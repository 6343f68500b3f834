"""``python -m broker.cli``: the same as the command ``broker``."""

from broker.cli.main import main

main(prog_name="broker")
