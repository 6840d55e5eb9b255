"""What a campaign consists of; apart, so that `campaign --help` can name it without loading anything."""

DEFAULTS = {
    "+algo": "base,grpo,gdpo,rft,vector_grpo,feedback_grpo,gepa",
    "task": "wordle,wordle_turn,gsm8k",
    "seed": "0,1,2",
    "policy": "smollm2_135m",
    "warmstart": "sft",
    "budget": "campaign",
    "results.keep_policy": "false",
    "wordle.words": "classic",
    "wordle_turn.words": "classic",
}
"""Unless its words say otherwise; `TASK.KEY=VALUE` is a setting of that task alone. `base` stands first: it makes the
warm start of its task."""
