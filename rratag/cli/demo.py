"""``rratag demo``."""


def demo() -> None:
    """To come."""
