"""``python -m rratag`` is the same as ``rratag``."""

from rratag.cli import main

if __name__ == "__main__":
    main()
