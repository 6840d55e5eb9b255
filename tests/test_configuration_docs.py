"""docs/configuration.md: its preset works as it is written, and its paths exist."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.config.schema import check_config, compose_config

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


def test_the_preset_of_the_page_departs_from_grpo(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo/kl.yaml").write_text(block)
    config = check_config(compose_config(["+algo=kl"], tmp_path))
    assert (config.algo.name, config.algo.beta) == ("grpo", 0.1)


def test_every_path_that_the_page_links_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
