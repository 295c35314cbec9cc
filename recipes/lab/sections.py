"""A claim's part in docs/reproduction.md: how the results of one recipe are shown and judged."""

import dataclasses
import pathlib
import re

from recipes.lab import accuracies


@dataclasses.dataclass(frozen=True)
class Section:
    """A claim, the recipe whose results speak of it, and how they are shown and judged.

    Attributes:
        recipe: str, the name of its file, and of its results.
        title, claim: str.
        show: function of a part to markdown.
        judge: function of a part's name and the part to pairs of a statement and a verdict.
        variant: str that a part's name must hold, or None for any.
    """

    recipe: str
    title: str
    claim: str
    show: object
    judge: object
    variant: str | None = None

    def is_of(self, name):
        return self.variant is None or self.variant in name

    def heading(self, name):
        return f"{self.title}: {name}"

    def rows(self, name, part):
        """Yields the rows of the table of all claims: a claim, on what, its verdict, where."""
        where = f"[{self.title}](#{anchor(self.heading(name))})"
        if not is_finished(part):
            yield self.claim.removesuffix("."), name, "not finished", where
            return
        for statement, verdict in self.judge(name, part):
            # What stands in brackets is in the section, beside the verdict's numbers.
            yield statement.partition(" (")[0], name, outcome(verdict), where

    def text(self, name, part, shown):
        """Returns the part's section; `shown` are its pictures, a list of Markdown."""
        lines = [f"## {self.heading(name)}", "", f"Claim: {self.claim}", ""]
        if not is_finished(part):
            return "\n".join([*lines, "Not finished: the same command goes on.", ""])
        lines += [f"- {statement}: {verdict}" for statement, verdict in self.judge(name, part)]
        lines += ["", self.show(part), ""]
        if self.show is not accuracies.markdown and part.get("accuracy_percent"):
            scores = part["accuracy_percent"].items()
            listed = ", ".join(f"{name} {accuracies.mean_and_spread(row)}" for name, row in scores)
            lines += [f"Accuracy on test, %: {listed}.", ""]
        lines += [line for picture in shown for line in (picture, "")]
        lines += [f"`recipes.papers.{self.recipe}`, {circumstances(part)}", ""]
        return "\n".join(lines)


def is_finished(part):
    """Whether a part's recipe came to its conclusions."""
    return "accuracy_percent" in part or "by_depth" in part


def outcome(verdict):
    """Returns the words of a verdict without its numbers and reasons."""
    for words in ("**holds**", "**does not hold**", "cannot tell"):
        if verdict.startswith(words):
            return words
    return "no verdict"


def anchor(heading):
    """Returns the address of a heading in its page, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def machine(environment):
    """Returns what a measurement ran on, a str."""
    device, versions = environment["device"], environment["versions"]
    names = ", ".join(device["names"]) if device.get("names") else device["kind"]
    return f"Keras {versions['keras']} on {versions['backend']}, {names}"


def circumstances(part):
    """Returns what a part's trials ran on, a str."""
    dates = sorted({t["date"] for trials in part["trials"].values() for t in trials.values()})
    found = dict.fromkeys(machine(environment) for environment in part["environments"])
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{'; '.join(found)}, {when}."


def pictures(results, recipe, name):
    """Returns markdown for each picture of a part among the results, a list."""
    parts = re.sub("[^A-Za-z0-9.]+", "_", "_".join(name.split(", ")[:-1]))
    found = sorted(pathlib.Path(results).glob(f"{recipe}_{parts}*.png"))
    # A part of another rate has pictures of its own.
    return [
        f"![{path.stem.replace('_', ' ')}](../recipes/results/{path.name})"
        for path in found
        if "rate" in name or "rate" not in path.stem
    ]
