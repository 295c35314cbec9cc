"""Accuracies of candidates over several seeds: what follows from them, and tables."""

from recipes.lab import comparison, verdicts


def conclusions(part, classes, paper=None):
    """Returns what every comparison of accuracies concludes, a dict.

    Args:
        part: dict, of `comparison.measured`.
        classes: int, of the dataset.
        paper: dict by candidate of the paper's figure in percent, or None.
    """
    return {
        "classes": classes,
        "accuracy_percent": {name: summary(part, name) for name in part["trials"]},
        "paper_percent": paper,
        "not_learned": {
            name: sum(
                not verdicts.learned(trial["test_accuracy"], classes) for trial in trials.values()
            )
            for name, trials in part["trials"].items()
        },
        # A trial that was not finite has no accuracy: it is entered as guessing.
        "imputed": {
            name: sum(not trial.get("finite", True) for trial in trials.values())
            for name, trials in part["trials"].items()
        },
    }


def summary(part, candidate, metric="test_accuracy"):
    """Returns `comparison.summary` of a candidate's shares in percent, within 0 to 100."""
    found = comparison.summary(comparison.values(part, candidate, metric), "share")
    return {
        "mean": 100 * found["mean"],
        "standard_deviation": found["standard_deviation"] and 100 * found["standard_deviation"],
        "n": found["n"],
        "confidence_95": found["confidence_95"] and [100 * x for x in found["confidence_95"]],
    }


def classes_of(part):
    """Returns how many classes the data of a part has: ten in files from before it was kept."""
    return part.get("classes", 10)


def renewed(part):
    """Returns a part with the conclusions on accuracies anew from its trials, by today's rules.

    Its file may have been written under older ones.
    """
    if not part.get("accuracy_percent"):
        return part
    tests = dict(part.get("tests", {}))
    for name in tests:
        ours, _, other = name.partition(" minus ")
        if ours in part["trials"] and other in part["trials"]:
            tests[name] = test(part, ours, other)
        ours, _, other = name.partition(" equals ")
        if ours in part["trials"] and other in part["trials"]:
            tests[name] = equivalence(part, ours, other, tests[name]["margin"])
    return {**part, **conclusions(part, classes_of(part), part["paper_percent"]), "tests": tests}


def test(part, candidate, other):
    """Returns the paired test of two candidates' accuracies, in percentage points."""
    ours, theirs = comparison.paired(part, candidate, other, "test_accuracy")
    return comparison.paired_test(100 * ours, 100 * theirs)


def equivalence(part, candidate, other, margin):
    """Returns the test that two candidates differ by less than a margin in percentage points."""
    ours, theirs = comparison.paired(part, candidate, other, "test_accuracy")
    return comparison.equivalence_test(100 * ours, 100 * theirs, margin)


def markdown(part):
    """Returns two tables: the candidates with the paper's figures, and the tests."""
    paper = part["paper_percent"] or {}
    lines = ["| | accuracy, % (n) | 95 % interval | paper |", "|---|---|---|---|"]
    for name, row in part["accuracy_percent"].items():
        figure = f"{paper[name]:.2f}" if name in paper else "-"
        failed = " (did not learn)" if part["not_learned"].get(name) else ""
        lines.append(f"| {name} | {mean_and_spread(row)}{failed} | {interval(row)} | {figure} |")
    lines += failures(part, part["not_learned"])
    lines += ["", "| difference | points | 95 % interval | p |", "|---|---|---|---|"]
    for name, row in part["tests"].items():
        margin = f" within ± {row['margin']}" if "margin" in row else ""
        cells = (f"{row['difference']:+.2f}", interval(row), p_value(row))
        lines.append(f"| {name}{margin} | {' | '.join(cells)} |")
    return "\n".join(lines)


def failures(part, candidates):
    """Returns how many trials of candidates did not learn, and diverged, lines of Markdown."""
    lines = []
    for name in candidates:
        if count := part["not_learned"][name]:
            trials = part["accuracy_percent"][name]["n"]
            text = f"{count} of {trials} trials of {name} did not learn."
            if imputed := part.get("imputed", {}).get(name):
                text += f" {imputed} of them diverged, and are entered as guessing."
            lines += ["", text]
    return lines


def costs(part, timed=True):
    """Returns the table of what each candidate costs.

    Args:
        part: dict, whose trials have "parameters" and "multiply_adds".
        timed: bool, whether an epoch's seconds are shown too.
    """
    head = ["", "parameters", "multiply-adds"] + ["seconds an epoch"] * timed
    lines = [f"| {' | '.join(head)} |".replace("|  |", "| |"), "|---" * len(head) + "|"]
    for name, found in part["trials"].items():
        trial = next(iter(found.values()))
        cells = [name, f"{trial['parameters']:,}", f"{trial['multiply_adds']:,}"]
        if timed:
            cells.append(f"{comparison.values(part, name, 'seconds_per_epoch').mean():.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_and_spread(row, style=".2f"):
    """Returns a summary's mean ± standard deviation and n, a str."""
    spread = row["standard_deviation"]
    shown = "" if spread is None else f" ± {spread:{style}}"
    return f"{row['mean']:{style}}{shown} ({row['n']})"


def interval(row, style=".2f"):
    """Returns a summary's or a test's 95 % interval, a str."""
    if row["confidence_95"] is None:
        return "-"
    low, high = row["confidence_95"]
    return f"{low:{style}} to {high:{style}}"


def p_value(test):
    """Returns a test's p, a str."""
    if test["p_value"] is None:
        return "-"
    return verdicts.shown_p(test["p_value"])
