"""What goes wrong, in the contract's words."""


class Fault(Exception):
    """One `error` answer: a stable code, a text for people, and where it happened."""

    def __init__(self, code, message, retryable=False, **where):
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.where = where
