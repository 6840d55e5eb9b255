"""Many runs: launching, workers, campaigns, plans."""
