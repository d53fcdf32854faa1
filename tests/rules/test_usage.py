"""Words stand in for tokens only where nothing was reported, and say so."""

from hypothesis import given
from hypothesis import strategies as st

from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.usage_pb2 import Usage
from turnwired.rules.usage import counted

words = st.integers(0, 20).map(lambda count: " ".join("w" * (n + 1) for n in range(count)))
usages = st.builds(
    Usage,
    input_tokens=st.integers(0, 9),
    output_tokens=st.integers(0, 9),
    reasoning_tokens=st.integers(0, 9),
    counted=st.booleans(),
)


def said(*texts: str) -> Message:
    return Message(parts=[Part(text=Text(text=text)) for text in texts])


@given(words, words, words)
def test_a_first_run_counts_what_went_in_and_what_it_added(asked: str, before: str, added: str) -> None:
    usage = counted(None, said(asked), said(before), said(before, added))
    assert usage == Usage(input_tokens=len(asked.split()), output_tokens=len(added.split()), counted=True)


@given(usages, words, words)
def test_a_later_run_adds_its_words_to_what_was_used(used: Usage, before: str, added: str) -> None:
    usage = counted(used, said("never counted twice"), said(before), said(before, added))
    expected = Usage()
    expected.CopyFrom(used)
    expected.output_tokens += len(added.split())
    expected.counted = used.counted or bool(added)
    assert usage == expected


def test_without_a_question_nothing_went_in() -> None:
    assert counted(None, None, said(), said("a b")) == Usage(output_tokens=2, counted=True)


def test_what_was_taken_back_is_not_counted_against_it() -> None:
    assert counted(Usage(output_tokens=3), None, said("a b c"), said("a")) == Usage(output_tokens=3)
