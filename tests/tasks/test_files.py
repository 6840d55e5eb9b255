"""Files of strangers: what is no regular file of a limited size is refused at once, and in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.errors import BadInput
from tasks.files import located, read_file
from tasks.gsm8k import Gsm8k, Gsm8kConfig
from tasks.words import load_words

NO_PATHS = ["a" * 5000, "a\0b", "~no-such-user-here/words.txt"]


@pytest.mark.parametrize("text", NO_PATHS)
def test_what_no_file_system_can_hold_is_named_with_the_setting(text: str) -> None:
    for call in (load_words, lambda path: Gsm8k(Gsm8kConfig(path=path))):
        with pytest.raises(BadInput, match=r"^task\.(words|path): '.*' is no path that can be used") as caught:
            call(text)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_a_path_that_is_not_there_yet_is_a_path(tmp_path: Path) -> None:
    assert located(str(tmp_path / "new" / "file"), "x") == tmp_path / "new" / "file"


def test_a_loop_of_links_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput, match="is no path"):
        located(str(tmp_path / "loop"), "x")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_file(tmp_path / "pipe")


def test_a_device_without_end_is_not_read() -> None:
    with pytest.raises(BadInput, match="no regular file"):
        load_words("/dev/zero")


def test_a_file_is_read_up_to_its_limit_and_refused_beyond(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    assert read_file(path, 1000) == b"x" * 1000
    with pytest.raises(OSError, match="larger than"):
        read_file(path, 999)


def test_a_link_is_followed_only_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link") == b"x"
    with pytest.raises(OSError, match="symbolic link"):
        read_file(tmp_path / "link", follow=False)


def test_a_list_of_words_past_a_megabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("crane\n" * 200_000)
    with pytest.raises(BadInput, match="larger than 1 MiB"):
        load_words(str(path))


def test_a_row_file_past_its_limit_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "train.jsonl").open("wb") as stream:
        stream.truncate(256 * 2**20 + 1)  # No byte of it is on the disk.
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(BadInput, match="larger than 256 MiB"):
        Gsm8k(Gsm8kConfig(path=str(tmp_path)))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")
def test_a_file_that_does_not_know_its_size_is_read_whole_or_refused() -> None:
    maps = Path("/proc/self/maps")
    assert maps.stat().st_size == 0
    assert read_file(maps).endswith(b"\n")
    assert len(read_file(maps)) > 1000
    with pytest.raises(OSError, match="larger"):
        read_file(maps, 1000)
