"""One run: what it may spend, what it spends, what it measures, and how it goes on after being broken off."""
