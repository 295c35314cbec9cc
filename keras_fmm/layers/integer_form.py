"""The one way in which layers compute otherwise while a file of integers is written."""

import contextlib


class IntegerFormMixin:
    """Adds `for_integers` to a layer that computes otherwise where `_integer_bits` is not None.

    The form differs in rounding and speed alone. A layer's own comment says what it gains.
    """

    _integer_bits = None

    @contextlib.contextmanager
    def for_integers(self, bits):
        """Lets calls in its block compute in the form that loses least when made integers.

        Exports ask every layer that has this method.

        Args:
            bits: int, 8 or 16, of what is between the layers. 32: those are floats, and weights
                are integers, which LiteRT multiplies with what it makes integers there.
        """
        before, self._integer_bits = self._integer_bits, bits
        try:
            yield
        finally:
            self._integer_bits = before
