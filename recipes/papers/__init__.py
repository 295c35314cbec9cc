"""Papers' questions, one a file, with what the page of verdicts says of each."""
