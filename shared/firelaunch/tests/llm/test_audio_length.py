"""The length of a recording follows from its bytes, whatever its headers say."""

from __future__ import annotations

import struct

import pytest
from firelaunch.llm.audio_length import seconds_bound
from firelaunch.testing.recordings import mp3, wav
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("seconds", [0.5, 1, 12.25])
def test_the_length_of_a_wav_is_that_of_its_samples_and_of_its_head(seconds: float) -> None:
    bound = seconds_bound("audio/wav", wav(seconds))
    assert bound is not None
    assert seconds <= bound < seconds + 0.01


def test_a_wav_that_tells_fewer_bytes_or_a_higher_speed_is_not_shorter_for_it() -> None:
    honest = wav(10)
    at = honest.index(b"data") + 4
    shorter = honest[:at] + struct.pack("<I", 8) + honest[at + 4 :]
    faster = honest[:28] + struct.pack("<I", 10**9) + honest[32:]  # the field of the bytes a second
    assert seconds_bound("audio/wav", shorter) == seconds_bound("audio/wav", honest)
    assert seconds_bound("audio/wav", faster) == seconds_bound("audio/wav", honest)


@pytest.mark.parametrize(
    ("at", "value"),
    [(20, b"\x55\x00"), (22, b"\x00\x00"), (24, b"\x00\x00\x00\x00"), (32, b"\xff\x00"), (34, b"\x03\x00")],
    ids=["compressed", "no channel", "no speed", "a frame too large", "odd samples"],
)
def test_a_wav_whose_speed_is_not_known_is_none(at: int, value: bytes) -> None:
    data = wav()
    assert seconds_bound("audio/wav", data[:at] + value + data[at + len(value) :]) is None


def test_the_length_of_an_mp3_is_that_of_its_frames_after_its_tag() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + b"\xff\xfb\x90\xc4" * 64
    for data in (mp3(100), tag + mp3(100)):
        bound = seconds_bound("audio/mpeg", data)
        assert bound == pytest.approx(100 * 1152 / 44_100)


def test_what_lies_between_the_frames_of_an_mp3_counts_at_the_lowest_speed() -> None:
    bound = seconds_bound("audio/mpeg", mp3(1) + bytes(5_000) + mp3(1))
    assert bound is not None
    assert bound >= 5 + 2 * 1152 / 44_100


@given(st.binary(max_size=400), st.sampled_from(["audio/wav", "audio/mpeg"]))
def test_no_bytes_make_the_reader_fail_or_a_length_below_nothing(data: bytes, media_type: str) -> None:
    for begun in (data, wav(0.01)[:44] + data, mp3(1) + data, b"ID3" + data):
        bound = seconds_bound(media_type, begun)
        assert bound is None or bound >= 0


@given(st.binary(max_size=2_000))
def test_more_bytes_never_make_a_recording_shorter(data: bytes) -> None:
    for media_type, whole in (("audio/wav", wav(0.1)), ("audio/mpeg", mp3(3))):
        before, after = seconds_bound(media_type, whole), seconds_bound(media_type, whole + data)
        assert before is not None
        assert after is not None
        assert after >= before
