"""Who does it: language models that can be improved, and how they play episodes."""
