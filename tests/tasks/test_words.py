from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from tasks.errors import BadInput
from tasks.words import load_words


def test_core_has_483_words_all_of_them_in_scowl() -> None:
    core, scowl = load_words("core"), load_words("scowl")
    assert len(core.secrets) == 483
    assert len(scowl.secrets) == 4_667
    assert set(core.secrets) <= set(scowl.secrets)


@pytest.mark.parametrize("name", ["core", "scowl"])
def test_a_packaged_list_has_the_same_words_for_secrets_and_guesses(name: str) -> None:
    words = load_words(name)
    assert words.secrets == words.guesses


@pytest.mark.parametrize("name", ["core", "scowl", "classic"])
def test_a_list_is_sorted_and_holds_each_word_once(name: str) -> None:
    words = load_words(name)
    for side in (words.secrets, words.guesses):
        assert list(side) == sorted(set(side))
        assert all(len(word) == 5 and word.isascii() and word.isalpha() and word.islower() for word in side)
    assert set(words.secrets) <= set(words.guesses)


def test_the_notice_of_scowl_travels_with_its_words() -> None:
    notice = resources.files("tasks").joinpath("data/words/COPYRIGHT.scowl").read_text(encoding="utf-8")
    assert "Kevin Atkinson" in notice
    assert "permission notice appear" in notice


def test_classic_has_2315_secrets_and_14855_guesses() -> None:
    classic = load_words("classic")
    assert (len(classic.secrets), len(classic.guesses)) == (2_315, 14_855)


def test_a_folder_gives_secrets_and_guesses_apart(wordle_folder: Path) -> None:
    words = load_words(str(wordle_folder))
    assert (len(words.secrets), len(words.guesses)) == (2_315, 12_972)
    assert words.secrets == load_words("classic").secrets


def test_a_secret_may_be_guessed_even_where_the_allowed_words_lack_it(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("crane\nslate\n")
    (tmp_path / "allowed.txt").write_text("zebra\n")
    words = load_words(str(tmp_path))
    assert words.secrets == ("crane", "slate")
    assert words.guesses == ("crane", "slate", "zebra")


def test_a_file_is_a_list_of_its_own_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("slate\r\n\n  crane \nslate\n")
    assert load_words(str(path)).secrets == ("crane", "slate")


@pytest.mark.parametrize("line", ["cranes", "cran", "Crane", "cr ne", "cr4ne", "naïve", "crane, slate"])
def test_a_bad_line_is_named_with_its_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(f"slate\n\n{line}\n", encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        load_words(str(path))
    assert str(caught.value).startswith(f"{path}:3: {line!r}")
    assert "5 lower-case letters a-z" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_line_in_a_folder_names_the_file_of_the_two(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("crane\n")
    (tmp_path / "allowed.txt").write_text("slate\nsl\n")
    with pytest.raises(BadInput, match=r"allowed\.txt:2: 'sl'"):
        load_words(str(tmp_path))


def test_a_long_bad_line_is_quoted_in_part(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("a" * 100_000)
    with pytest.raises(BadInput) as caught:
        load_words(str(path))
    assert len(str(caught.value)) < len(str(path)) + 150


def test_a_byte_order_mark_is_no_letter(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("crane\nslate\n\n", encoding="utf-8-sig")
    assert load_words(str(file)).secrets == ("crane", "slate")


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\n \n")
    with pytest.raises(BadInput, match="is empty"):
        load_words(str(path))


def test_a_missing_file_names_the_lists_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="core, scowl, classic"):
        load_words(str(tmp_path / "nowhere.txt"))


def test_a_folder_without_its_files_names_the_one_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"answers\.txt"):
        load_words(str(tmp_path))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot read"):
        load_words(str(path))
