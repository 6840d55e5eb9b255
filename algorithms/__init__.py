"""Ways to improve a policy on a task."""
