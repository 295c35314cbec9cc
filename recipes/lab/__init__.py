"""What experiments share: settings, the training of trials, tests, verdicts, pages, figures."""
