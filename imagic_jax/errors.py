"""The one exception for mistakes that a person can mend (floor 0: imports nothing of ours)."""


class UserError(Exception):
    """Something that the user gave cannot be used.

    The message is one clear sentence or two: what was wrong, what was expected, what to do. The
    programs print it without a stack trace and exit with code 2.
    """
