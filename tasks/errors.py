"""The error for a user's mistake, and the one for a run that nobody's mistake ends."""


class BadInput(ValueError):
    """Something the user gave is wrong: one line that says what, where, and what would be right. Exit code 2."""


class RunFailed(RuntimeError):
    """A run cannot go on: one line that says why, and what is left of it. Exit code 1."""


def require(holds: bool, message: str) -> None:
    """Refuse a setting.

    Raises:
        BadInput: with the message, where `holds` is false.
    """
    if not holds:
        raise BadInput(message)
