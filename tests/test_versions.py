"""setup.cfg's lower bounds are the versions that `make test-oldest` installs and tests."""

import pathlib
import re

from tests.test_declared import SETUP

ROOT = pathlib.Path(__file__).parents[1]
# Tools of those who work on the package; PyTorch, timm and keras-hub, whose bounds are the versions
# that were run.
NOT_INSTALLED = {"all", "browser", "dev", "docs", "hub", "timm", "torch"}


def named(text):
    """Returns {distribution: what follows it} of lines such as `numpy>=2.0`."""
    lines = (re.fullmatch(r"([\w.-]+)(.*)", line) for line in text.splitlines())
    return {re.sub("[_.-]+", "-", line[1]).lower(): line[2] for line in lines if line}


def test_lower_bounds_are_the_versions_of_test_oldest():
    pins = named((ROOT / "constraints-oldest.txt").read_text(encoding="utf-8"))
    sets = {"install_requires": SETUP["options"]["install_requires"]}
    sets |= {k: v for k, v in SETUP["options.extras_require"].items() if k not in NOT_INSTALLED}
    for name, text in sets.items():
        bounds = named(text)
        assert bounds  # Else nothing was looked at.
        for distribution, bound in bounds.items():
            pinned = pins[distribution].removeprefix("==")
            lower = re.match(r">=([\d.]+)", bound)
            assert lower, f"{distribution} in {name} needs a lower bound: the oldest version run."
            assert re.fullmatch(re.escape(lower[1]) + r"(\.0)*", pinned), (
                f"{name} of setup.cfg says {distribution}{bound}, constraints-oldest.txt "
                f"{distribution}=={pinned}. Write the same into both, and run `make test-oldest`."
            )
