"""README.ja.md says what README.md says: the same commands, pictures and places."""

import re
from pathlib import Path

import simlib

ROOT = Path(simlib.__file__).parents[1]
ENGLISH, JAPANESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md"))
WORDS = ("配信チャネル", "共有 IP プール", "信用力", "スロットリング", "受信拒否", "配信失敗", "一括配信", "認証情報")


def commands(text: str) -> list[list[str]]:
    """Return the lines of each block, without the comments: these are translated."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [[re.sub(r"\s+# .*", "", line) for line in block.splitlines()] for block in blocks]


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text)


def headings(text: str) -> list[int]:
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [len(signs) for signs in re.findall(r"^(#+) ", prose, re.MULTILINE)]


def test_both_have_the_same_commands() -> None:
    assert len(commands(ENGLISH)) > 8
    assert commands(JAPANESE) == commands(ENGLISH)


def test_both_have_the_same_parts_pictures_and_places() -> None:
    assert headings(JAPANESE) == headings(ENGLISH)
    assert links(JAPANESE)[1:] == links(ENGLISH)[1:]
    assert JAPANESE.count("\n|") == ENGLISH.count("\n|")


def test_each_leads_to_the_other_and_to_what_is_there() -> None:
    assert links(ENGLISH)[0] == "README.ja.md"
    assert links(JAPANESE)[0] == "README.md"
    assert [link for link in links(ENGLISH) if not (ROOT / link).exists()] == []


def test_the_japanese_one_uses_the_words_of_the_field() -> None:
    assert [word for word in WORDS if word not in JAPANESE] == []
