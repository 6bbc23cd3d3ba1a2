"""The one exception that a user's mistake ends in."""


class UserError(Exception):
    """A mistake in what the user gave, as one sentence that names what to change."""
