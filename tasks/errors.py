"""The one error for a user's mistake."""


class BadInput(ValueError):
    """Something the user gave is wrong: one line that says what, where, and what would be right. Exit code 2."""
