"""A claim's part in docs/reproduction.md: how the results of one recipe are shown and judged."""

import dataclasses
import pathlib
import re
import shlex

from recipes.lab import accuracies, comparison, settings, verdicts


@dataclasses.dataclass(frozen=True)
class Section:
    """A claim, the recipe whose results speak of it, and how they are shown and judged.

    Attributes:
        recipe: str, the name of its file, and of its results.
        title, claim: str.
        show: function of a part to markdown.
        judge: function of a part's name and the part to pairs of a statement and a verdict.
        variant: str that a part's name must hold, or None for any.
        flags: function of a part's name and the part to the settings, a dict or several, that the
            command has beside dataset, epochs, rate and seeds.
        deviations: str, how what was done differs from the paper, or a function of a part's name to
            it.
        draw: function of a part's name, the part and a path that draws its picture there, or some
            beside it, from the trials alone; or None.
        only_primary: bool, whether the table of all claims leaves out what is exploratory in a part
            without primary claims too.
    """

    recipe: str
    title: str
    claim: str
    show: object
    judge: object
    variant: str | None = None
    flags: object = lambda name, part: {}
    deviations: object = ""
    draw: object = None
    only_primary: bool = False

    def is_of(self, name):
        return self.variant is None or self.variant in name

    def heading(self, name):
        return f"{self.title}: {name}"

    @property
    def family(self):
        """The paper whose primary endpoints are corrected together."""
        return self.title.partition(",")[0]

    def findings(self, name, part):
        """Returns what is claimed of a part, a list of `Claim`, not yet corrected."""
        if not is_finished(part):
            return []
        found = []
        for statement, finding in self.judge(name, accuracies.renewed(part)):
            if isinstance(finding, str):
                words = outcome(finding)
                reason = finding.removeprefix(words).strip(" :,").removeprefix("as ")
                finding = verdicts.Finding(words, reason)
            primary = verdicts.is_primary(self.recipe, statement)
            found.append(Claim(statement, self.family if primary else None, finding))
        return found

    def commands(self, name, part, candidates=()):
        """Returns the commands that measured a part, or some of its candidates, a list of str.

        Those that its trials have, and of older ones without what follows from the part's name.
        """
        kept, older = {}, {}
        for candidate in candidates or part["trials"]:
            for seed, trial in part["trials"].get(candidate, {}).items():
                if "command" in trial:
                    kept[trial["command"]] = candidate
                else:
                    older.setdefault(candidate, {})[seed] = trial
        derived = self._commands_of(name, {**part, "trials": older}) if older else []
        if not candidates:
            return sorted(kept) + derived
        # The one of what the claim is of comes first.
        is_older = candidates[0] in older and candidates[0] not in kept.values()
        return [*derived, *kept] if is_older else [*kept, *derived]

    def _commands_of(self, name, part):
        dataset, *_, epochs = name.split(", ")
        seeds = max(len(seeds) for seeds in part["trials"].values())
        values = {"dataset": dataset, "epochs": int(epochs.split()[0]), "seeds": seeds}
        backends = {
            part["environments"][trial["environment"]]["versions"]["backend"].split()[0]
            for seeds in part["trials"].values()
            for trial in seeds.values()
        }
        given = [f"KERAS_BACKEND={x}" for x in backends if x != "tensorflow" and len(backends) < 2]
        if rate := re.search(", rate ([0-9.e-]+)", name):
            values["learning_rate"] = float(rate[1])
        if images := re.search(", ([0-9]+) images", name):
            values["train_images"] = int(images[1])
        more = self.flags(name, part)
        found = []
        for each in [more] if isinstance(more, dict) else more:
            each = {**values, **each}
            words = [word for v in each.values() if isinstance(v, tuple) for word in v]
            words += settings.flags({k: v for k, v in each.items() if not isinstance(v, tuple)})
            recipe = f"recipes.papers.{self.recipe}"
            found.append(shlex.join([*given, "python", "-m", recipe, *words]))
        return found

    def rows(self, name, part, claims):
        """Yields the rows of the table of all claims; those that are exploratory if no other is.

        Args:
            name: str, the part's.
            part: dict.
            claims: list of `Claim`, corrected.
        """
        where = f"[{self.title}](#{anchor(self.heading(name))})"
        if not is_finished(part) or not claims:
            statement, command = self.claim.removesuffix("."), self._shortly(name, part)
            yield [statement, name, "-", "-", "not finished", "-", "-", "-", command, "-", where]
            return
        primary = [claim for claim in claims if claim.family]
        if not primary and self.only_primary:
            return
        for claim in primary or claims:
            finding = claim.finding
            # What stands in brackets is in the section.
            statement = claim.statement.partition(" (")[0]
            yield [
                statement,
                name,
                finding.paper,
                finding.ours,
                finding.outcome,
                finding.numbers or "-",
                str(finding.n or "-"),
                seconds(name, part),
                self._shortly(name, part, finding.candidates),
                finding.decides,
                where,
            ]

    def _shortly(self, name, part, candidates=()):
        commands = self.commands(name, part, candidates) or self.commands(name, part)
        return f"`{commands[0]}`" + (f" and {len(commands) - 1} more" if commands[1:] else "")

    def text(self, name, part, claims, shown):
        """Returns the part's section.

        Args:
            name: str, the part's.
            part: dict.
            claims: list of `Claim`, corrected.
            shown: list of str, its pictures in Markdown.
        """
        part = accuracies.renewed(part)
        lines = [f"## {self.heading(name)}", "", f"Claim: {self.claim}", ""]
        if not is_finished(part):
            lines += [
                "Not finished: the same command goes on.",
                "",
                *self.circumstances(name, part),
            ]
            return "\n".join(lines)
        if not claims:
            lines += ["Not finished: what the claim compares is not all there.", ""]
        for claim in claims:
            kind = "primary" if claim.family else "exploratory"
            # What the change of the rule decided.
            is_new = claim.finding.rose and claim.finding.outcome != "cannot tell"
            remark = "; until 2026-11-27 the rising curve of a seed left this open" * is_new
            lines.append(f"- {claim.statement}: {claim.finding}{remark} [{kind}]")
        lines += ["", self.show(part), ""]
        if self.show is not accuracies.markdown and part.get("accuracy_percent"):
            scores = part["accuracy_percent"].items()
            listed = ", ".join(f"{name} {accuracies.mean_and_spread(row)}" for name, row in scores)
            lines += [f"Accuracy on test, %: {listed}.", ""]
        lines += [line for picture in shown for line in (picture, "")]
        return "\n".join([*lines, *self.circumstances(name, part)])

    def circumstances(self, name, part):
        """Returns how a part was measured, lines of Markdown."""
        trials = [trial for seeds in part["trials"].values() for trial in seeds.values()]
        environments = part["environments"]
        measured = [environments[trial["environment"]] for trial in trials]
        # A network may have been trained before, by another commit.
        trained = [environments[t["trained_in"]] for t in trials if "trained_in" in t] or measured
        dates = sorted({trial["date"] for trial in trials})
        machines = "; ".join(dict.fromkeys(machine(environment) for environment in measured))
        lines = ["Command:", "", "```bash", *self.commands(name, part), "```", ""]
        lines += [
            f"- Code: trained with {commits(trained)}; measured with {commits(measured)}.",
            f"- Machine: {machines}.",
            f"- Date: {dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'}"
            + f", {beside_rules(environments, trials)}.",
            f"- Training: {seconds(name, part)} seconds.",
        ]
        deviations = self.deviations(name) if callable(self.deviations) else self.deviations
        if deviations:
            lines.append(f"- Deviations from the paper: {deviations}")
        return [*lines, ""]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement, the family of tests it is corrected with or None, and its `verdicts.Finding`."""

    statement: str
    family: str | None
    finding: verdicts.Finding


def seconds(name, part):
    """Returns the seconds that a part's networks were trained for, a str; "-" where none was."""
    epochs = int(name.split(", ")[-1].split()[0])
    trials = [trial for seeds in part["trials"].values() for trial in seeds.values()]
    found = [
        trial["seconds_per_epoch"] * trial.get("epoch", epochs)
        for trial in trials
        # One network that is measured along its training is trained once.
        if "seconds_per_epoch" in trial and trial.get("epoch", epochs) == epochs
    ]
    return f"{sum(found):.0f}" if found else "-"


def beside_rules(environments, trials):
    """Returns whether trials were measured before the rules, in part, or after them, a str."""

    def is_after(trial):
        git = environments[trial["environment"]].get("git") or {}
        had_them = git.get("commit", "")[:10] in verdicts.WITH_RULES
        return trial["date"] > verdicts.RULES_DATE or had_them

    found = {is_after(trial) for trial in trials}
    if len(found) > 1:
        return "in part before the rules"
    return "after the rules" if True in found else "before the rules"


def commits(environments):
    """Returns the commits of environments, a str."""
    found = {}
    for environment in environments:
        git = environment.get("git") or {"commit": "unknown", "dirty": False}
        found[git["commit"][:10] + (" with changes" if git["dirty"] else "")] = None
    return ", ".join(found)


def is_finished(part):
    """Whether a part's recipe came to its conclusions."""
    return "accuracy_percent" in part or "by_depth" in part


def outcome(verdict):
    """Returns the words of a verdict without its numbers and reasons."""
    for words in verdicts.OUTCOMES:
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


def pictures(results, recipe, name):
    """Returns markdown for each picture of a part among the results, a list."""
    results = pathlib.Path(results)
    part = f"{recipe}_{comparison.as_file_name(name)}"
    found = [*results.glob(f"differences_{part}.png"), *sorted(results.glob(f"{part}*.png"))]
    return [f"![{path.stem.replace('_', ' ')}](../recipes/results/{path.name})" for path in found]
