"""How a run survives an interruption: state, lock, signals."""
