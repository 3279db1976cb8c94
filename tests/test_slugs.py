"""Slugs: unique, numbered for each name and set of tags."""

from __future__ import annotations

from prefectish.slugs import SlugBook


def test_slugs_count_from_one_for_each_name() -> None:
    book = SlugBook()
    assert [book.make(name, ()) for name in ("a", "a", "b", "a")] == ["a-1", "a-2", "b-1", "a-3"]


def test_tags_are_sorted_into_the_slug() -> None:
    assert SlugBook().make("a", {"y", "x"}) == "a-x-y-1"


def test_made_up_slug_passes_those_of_the_user() -> None:
    book = SlugBook()
    assert book.take("a-1")
    assert book.take("a-2")
    assert book.make("a", ()) == "a-3"


def test_taken_slug_is_refused_until_it_is_free() -> None:
    book = SlugBook()
    assert book.take("a")
    assert not book.take("a")
    book.free("a")
    assert book.take("a")


def test_copy_continues_by_itself() -> None:
    book = SlugBook()
    book.make("a", ())
    other = book.copy()
    assert other.make("a", ()) == book.make("a", ()) == "a-2"
