"""The one root of every error that the library raises on purpose."""


class DeepRadiomicsError(Exception):
    """Something is wrong that the user can mend; the message says what, where and how.

    The command line prints the message without a traceback and exits with a non-zero status.
    """
