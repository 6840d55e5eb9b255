"""The embedded policy: its tokenizer, the lessons it was taught, and the command that remakes it."""
