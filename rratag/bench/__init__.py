"""What each stage costs here: beside the naive way to do the same, measured in turns in one run."""
