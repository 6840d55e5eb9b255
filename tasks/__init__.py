"""What must be done: problems, and environments that play and judge them."""
