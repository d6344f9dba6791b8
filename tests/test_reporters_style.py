"""What is drawn on a screen: widths, clipping, wrapping."""

from __future__ import annotations

import pytest

from gradlint.reporters.style import Style, clip, printable, text_width, wrap


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("日本", 4), ("é", 1), ("e\u0301", 1), ("🙂", 2), ("", 0), ("a\u200db", 2)],
)
def test_widths_are_counted_as_terminals_draw_them(text: str, width: int) -> None:
    assert text_width(text) == width


def test_control_characters_cannot_disturb_the_terminal() -> None:
    assert printable("a\x1b[31mb") == "a\N{REPLACEMENT CHARACTER}[31mb"
    assert printable("x\u202ey") == "x\N{REPLACEMENT CHARACTER}y"
    assert printable("\tx") == "    x"


def test_a_short_line_stays_whole() -> None:
    view = clip("    loss.backward()", 4, 19, 80)
    assert (view.text, view.start, view.width) == ("    loss.backward()", 4, 15)


def test_wide_characters_move_the_mark() -> None:
    view = clip('"日本" + x.detach()', 7, 17, 80)
    assert view.text[7:17] == "x.detach()"
    assert (view.start, view.width) == (9, 10)


def test_a_tab_is_drawn_as_four_columns() -> None:
    view = clip("\tx.detach()", 1, 11, 80)
    assert (view.text, view.start, view.width) == ("    x.detach()", 4, 10)


@pytest.mark.parametrize("room", [20, 33, 50, 79])
@pytest.mark.parametrize("begin", [0, 5, 100, 290, 560])
@pytest.mark.parametrize("filler", ["a", "日", "e\u0301"])
def test_a_long_line_is_clipped_around_the_mark(room: int, begin: int, filler: str) -> None:
    line = filler * begin + "MARK" + filler * (600 - begin)
    start = len(filler) * begin
    view = clip(line, start, start + 4, room)
    assert text_width(view.text) <= room
    drawn = ""
    for char in view.text:
        if text_width(drawn) >= view.start and char not in "\u0301":
            break
        drawn += char
    assert view.text[len(drawn) :].lstrip("\u0301").startswith("MARK")
    assert view.width == 4


def test_a_mark_wider_than_the_room_keeps_its_beginning() -> None:
    view = clip("x = " + "call(" + "a, " * 100 + ")", 4, 310, 40)
    assert "call(a, a" in view.text
    assert view.text.endswith("…")
    assert view.start + view.width <= 40


def test_prose_is_wrapped_at_blanks() -> None:
    lines = list(wrap("the loss never reaches the encoder, which therefore never learns", 24))
    assert all(len(line) <= 24 for line in lines)
    assert " ".join(lines) == "the loss never reaches the encoder, which therefore never learns"
    assert list(wrap("one\ntwo", 80)) == ["one", "two"]
    assert list(wrap("", 80)) == [""]


def test_paint_is_silent_without_color() -> None:
    assert Style(color=False).paint("x", "red") == "x"
    assert Style(color=True).paint("x", "red", "bold") == "\x1b[31;1mx\x1b[0m"
    assert Style(color=True).paint("", "red") == ""
