"""TRL's fused output head, asked for the positions in the loss and for no others.

Whether it leaves the others out, TRL decides by the device: no where there is no Triton, for the sake of accelerators
that recompile when a shape changes. torch's CPU kernels do not. It is decided here once, for warm starts and for
updates, so that what one of them computes does not depend on whether the other was imported before.
"""

from __future__ import annotations

import os

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
import trl.trainer.utils as trl_utils


def skip_what_is_not_in_the_loss() -> None:
    """Have every fused head of this process multiply valid positions only."""
    trl_utils._use_triton = lambda device: True
