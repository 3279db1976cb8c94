"""``python -m prefectish.cli``."""

from prefectish.cli import main

main()
