"""What replaces the values of secrets in texts, log records and prints of a process."""

from __future__ import annotations

import copy
import io
import json
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from prefectish.errors import MAX_TEXT_LENGTH, describe, shorten, text_of
from prefectish.secrets import masking
from prefectish.secrets.masking import MASK, known, mask, masked, register
from prefectish.secrets.output_masking import MaskingStream, mask_output

VALUE = "k9#/canary value"


def test_mask_leaves_texts_alone_as_long_as_nothing_is_secret():
    text = f"what about {VALUE}?"
    assert masking.pattern is None
    assert mask(text) is text
    assert masked([text]) == [text]


def test_mask_replaces_a_value_wherever_it_stands():
    register(VALUE)
    assert mask(f"{VALUE} and x{VALUE}x") == f"{MASK} and x{MASK}x"
    assert mask("canary") == "canary"


@pytest.mark.parametrize(
    "form", [str, json.dumps, repr, lambda v: quote(v, safe=""), lambda v: f"https://u:{quote(v)}@h"]
)
def test_mask_knows_a_value_in_other_spellings(form):
    register("pä\"ss'wörd\\ 1")
    text = form("pä\"ss'wörd\\ 1")
    if form is not str and "h" in text and text.startswith("https"):
        text = text.replace("/", "%2F").replace("https:%2F%2F", "https://")
    assert MASK in mask(text)
    assert "rd" not in mask(text)


def test_mask_takes_the_longest_value_first():
    register("abcd")
    register("abcdefgh")
    assert mask("<abcdefgh>") == f"<{MASK}>"


def test_register_takes_the_texts_of_a_json_secret_but_not_its_ports_and_flags():
    register({"user": "ada-lovelace", "port": 54321, "tls": True, "more": [{"key": "in-a-list"}], "none": None})
    assert mask("ada-lovelace in-a-list 54321 True None") == f"{MASK} {MASK} 54321 True None"


def test_register_takes_a_number_that_is_the_secret():
    register(90210711)
    assert mask("pin 90210711") == f"pin {MASK}"


@pytest.mark.parametrize("value", ["", "abc", "   ", None, True, 7, "true", "Null", {"tls": "false"}])
def test_register_leaves_values_alone_that_would_mask_every_other_word(value):
    register(value)
    assert mask("abc True true null false None 7 and more") == "abc True true null false None 7 and more"


def test_register_takes_the_lines_of_a_key():
    register("-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n")
    assert mask("line 2: hkiG9w0BAQEFAASC") == f"line 2: {MASK}"


def test_register_takes_bytes_and_a_lone_surrogate():
    register(b"bytes-secret")
    register("half \ud800 pair")
    assert mask("bytes-secret, half \ud800 pair") == f"{MASK}, {MASK}"


def test_masked_keeps_what_tells_nothing():
    register(VALUE)
    value = [("a", 1), {"k": b"raw"}]
    assert masked(value) is value or masked(value) == value
    assert masked({VALUE: [VALUE, (VALUE, 2)], "b": VALUE.encode()}) == {
        MASK: [MASK, (MASK, 2)], "b": MASK.encode()
    }  # fmt: skip


def test_known_values_arm_another_process():
    register(VALUE)
    told = known()
    masking._known, masking.pattern = frozenset(), None
    for text in told:
        register(text)
    assert mask(VALUE) == MASK


def test_register_from_many_threads_loses_none():
    values = [f"secret-number-{n:04}" for n in range(400)]
    gate = threading.Barrier(8)

    def enter(part):
        gate.wait(60)
        for value in part:
            register(value)
            assert mask(value) == MASK

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(enter, values[n::8]) for n in range(8)]:
            done.result(60)
    assert mask(" ".join(values)) == " ".join([MASK] * 400)


# ---------------------------------------------------------------------- texts of errors


def test_shorten_masks_before_it_cuts():
    register(VALUE)
    text = "x" * (MAX_TEXT_LENGTH - 5) + VALUE
    assert VALUE[:5] not in shorten(text)


def test_text_of_and_describe_mask():
    register(VALUE)
    error = ValueError(f"no {VALUE}")
    assert text_of(error) == f"no {MASK}"
    assert describe(error) == f"ValueError('no {MASK}')"


# ---------------------------------------------------------------------- logs and prints


@pytest.fixture
def lines():
    """What a handler of the user's writes."""
    logger = logging.getLogger("somebody.else")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lambda: stream.getvalue()
    logger.removeHandler(handler)


def test_hide_masks_records_of_all_loggers(lines):
    mask_output(VALUE)
    logger = logging.getLogger("somebody.else")
    logger.info("GET /?token=%s", VALUE)
    logger.warning(f"plain {VALUE}")
    logger.info("nothing %d", 3)
    assert lines() == f"INFO GET /?token={MASK}\nWARNING plain {MASK}\nINFO nothing 3\n"


def test_hide_masks_tracebacks_in_records(lines):
    mask_output(VALUE)
    try:
        raise ValueError(f"told from elsewhere: {VALUE}")
    except ValueError:
        logging.getLogger("somebody.else").exception("it failed")
    assert f"told from elsewhere: {MASK}" in lines()
    assert VALUE not in lines()


def test_hide_keeps_a_record_whose_arguments_do_not_fit():
    mask_output(VALUE)
    record = logging.getLogger().makeRecord("n", logging.INFO, __file__, 1, "%d and %d", (VALUE,), None)
    with pytest.raises(TypeError):  # logging tells so, with the arguments, when it writes the record
        record.getMessage()
    assert record.args == (MASK,)


def test_hide_masks_prints_once(capsys):
    mask_output(VALUE)
    mask_output("another-value")
    print("token", VALUE, file=sys.stdout)
    print("token", VALUE, file=sys.stderr)
    sys.stdout.writelines([VALUE, "\n"])
    out, err = capsys.readouterr()
    assert out == f"token {MASK}\n{MASK}\n"
    assert err == f"token {MASK}\n"
    assert not isinstance(sys.stdout._stream, MaskingStream)


def test_masking_stream_can_be_copied():
    assert copy.copy(MaskingStream(io.StringIO())).write("abc") == 3


def test_masking_stream_is_the_stream_otherwise(capsys):
    mask_output(VALUE)
    assert sys.stdout.isatty() is False
    sys.stdout.flush()
    assert sys.stdout.write("abc") == 3
