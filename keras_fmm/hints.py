"""Types that the hints of several parts name."""

import os
from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

# Of files and folders.
Path = str | os.PathLike[str]
# Of progress: "auto", 0, 1 or 2.
Verbose = int | str
# What a model takes: one array, or several in order or by name.
Inputs = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]
