"""The one exception for model folders that cannot be read or written."""


class WeightsError(ValueError):
    """A model folder or file is missing, broken or does not fit its config.

    The message names the file, what is wrong with it and what to do; programs print it as it is.
    """
