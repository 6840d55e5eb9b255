"""The one error for a user's mistake."""


class BadInput(ValueError):
    """Something the user gave is wrong: one line that says what, where, and what would be right. Exit code 2."""


def require(holds: bool, message: str) -> None:
    """Refuse a setting.

    Raises:
        BadInput: with the message, where `holds` is false.
    """
    if not holds:
        raise BadInput(message)
