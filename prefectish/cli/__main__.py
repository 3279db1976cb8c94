"""``python -m prefectish.cli``."""

from prefectish.cli import main

if __name__ == "__main__":
    main()
