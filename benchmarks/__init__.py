"""The measuring: runs, budgets, ledgers, evaluations, records and tables."""
