"""Text, reasoning and vectors of answers, however they came."""

from __future__ import annotations

import base64
import copy
import io
import json
import pickle
import struct
from typing import Any

import pytest

from openaiasync.core.codec.decode import decoder_for, keep
from openaiasync.core.model import mixins as answers
from openaiasync.core.model.base import BaseModel
from openaiasync.core.model.mixins import ResponseText, return_base64
from openaiasync.types import Completion, CreateEmbeddingResponse, Embedding
from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk
from openaiasync.types.responses import ResponseOutputItem

CHAT = b'{"id":"i","object":"chat.completion","created":1,"model":"m","choices":[%s]}'
CHUNK = b'{"id":"i","object":"chat.completion.chunk","created":1,"model":"m","choices":[%s]}'


def chat(choices: bytes) -> ChatCompletion:
    return decoder_for(ChatCompletion).decode(CHAT % choices)


def chunk(choices: bytes) -> ChatCompletionChunk:
    return decoder_for(ChatCompletionChunk).decode(CHUNK % choices)


def message(fields: bytes) -> ChatCompletion:
    return chat(b'{"index":0,"finish_reason":"stop","message":{"role":"assistant",%s}}' % fields)


@pytest.mark.parametrize(
    ("fields", "text", "reasoning"),
    [
        (b'"content":"hi"', "hi", ""),
        (b'"content":null', "", ""),
        (b'"content":null,"refusal":"no"', "", ""),
        (b'"content":"a","reasoning_content":"b"', "a", "b"),
        (b'"content":"a","reasoning":"b"', "a", "b"),
        (b'"content":"a","reasoning_content":"","reasoning":"c"', "a", "c"),
        (b'"content":[{"type":"text","text":"a"},{"type":"image"},{"text":null},7,{"text":"b"}]', "ab", ""),
        (b'"content":7,"reasoning":7', "7", "7"),
        (b'"odd":1', "", ""),
    ],
)
def test_the_text_of_a_chat_answer(fields: bytes, text: str, reasoning: str) -> None:
    """A string in every case, never `None`, also when the server sends something else."""
    answer = message(fields)
    assert (answer.text, answer.reasoning) == (text, reasoning)
    assert answer.message is answer.choices[0].message


@pytest.mark.parametrize(
    "body", [b"{}", b'{"choices":null}', b'{"choices":[]}', b'{"choices":"x"}', b'{"choices":[3]}']
)
def test_answers_without_a_choice_have_no_text(body: bytes) -> None:
    """There is no message either; reading it is not an error."""
    answer = decoder_for(ChatCompletion).decode(body)
    assert (answer.text, answer.reasoning, answer.message) == ("", "", None)
    piece = decoder_for(ChatCompletionChunk).decode(body)
    assert (piece.text, piece.reasoning) == ("", "")
    assert decoder_for(Completion).decode(body).text == ""


def test_a_message_of_a_wrong_kind_is_shown_and_has_no_text() -> None:
    """As it came."""
    answer = chat(b'{"index":0,"message":"hello"}')
    assert (answer.message, answer.text) == ("hello", "")


@pytest.mark.parametrize(
    ("choices", "text", "reasoning"),
    [
        (b'{"index":0,"delta":{"content":"a"},"finish_reason":null}', "a", ""),
        (b'{"index":0,"delta":{"content":null,"reasoning":"r"}}', "", "r"),
        (b'{"index":1,"delta":{"content":"b"}}', "", ""),
        (b'{"index":1,"delta":{"content":"b"}},{"index":0,"delta":{"content":"a"}}', "a", ""),
        (b'{"delta":{"content":"a"}}', "a", ""),
        (b'{"index":0,"delta":null}', "", ""),
    ],
)
def test_the_text_of_a_chunk_is_that_of_the_first_choice(choices: bytes, text: str, reasoning: str) -> None:
    """Texts of several choices are never mixed."""
    piece = chunk(choices)
    assert (piece.text, piece.reasoning) == (text, reasoning)


def test_the_text_of_a_completion() -> None:
    """Of the choice with index 0, wherever it stands."""
    body = (
        b'{"id":"i","object":"text_completion","created":1,"model":"m","choices":['
        b'{"index":1,"text":"b","logprobs":null,"finish_reason":"stop"},'
        b'{"index":0,"text":"a","logprobs":null,"finish_reason":"stop"}]}'
    )
    assert decoder_for(Completion, strict=True).decode(body).text == "a"


class Reply(ResponseText, BaseModel, kw_only=True):
    output: list[ResponseOutputItem]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (b"[]", ""),
        (b"null", ""),
        (b'[{"type":"reasoning","id":"r","summary":[]}]', ""),
        (
            (
                b'[{"type":"message","id":"m","role":"assistant","status":"completed","content":['
                b'{"type":"output_text","text":"a","annotations":[],"logprobs":[]},{"type":"refusal","refusal":"no"},'
                b'{"type":"output_text","text":"b","annotations":[],"logprobs":[]}]},'
                b'{"type":"message","content":[{"type":"output_text","text":"c"},{"type":"new","text":"d"}]}]'
            ),
            "abc",
        ),
        (b'[{"type":"message","content":"text"},{"type":"new","content":[{"type":"output_text","text":"x"}]},3]', ""),
    ],
)
def test_the_text_of_a_response(output: bytes, text: str) -> None:
    """All output texts of its messages in one string, as the official client gives them."""
    assert decoder_for(Reply).decode(b'{"output":' + output + b"}").output_text == text


NUMBERS = [1.0, -0.5, 0.25]
PACKED = struct.pack("<3f", *NUMBERS)


def embeddings(*values: Any, indexes: tuple[Any, ...] | None = None) -> CreateEmbeddingResponse:
    import json

    data = [
        {"object": "embedding", "index": index, "embedding": value}
        for index, value in zip(indexes or range(len(values)), values, strict=True)
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    body = json.dumps({"object": "list", "model": "m", "data": data, "usage": usage}).encode()
    return keep(decoder_for(CreateEmbeddingResponse).decode(body), body, None)


@pytest.mark.parametrize("sent", [NUMBERS, base64.b64encode(PACKED).decode()], ids=["floats", "base64"])
def test_an_embedding_is_a_vector_and_a_list(sent: Any) -> None:
    """Whatever way it travelled; dumps and repr show the list."""
    answer = embeddings(sent)
    one = answer.data[0]
    assert (one.vector.format, one.vector.tolist()) == ("f", NUMBERS)
    assert one.embedding == NUMBERS
    assert answer.to_dict()["data"][0] == {"object": "embedding", "index": 0, "embedding": NUMBERS}
    assert answer.model_dump()["data"][0]["embedding"] == NUMBERS
    assert one.to_dict()["embedding"] == NUMBERS
    assert "embedding=" in repr(one)
    assert copy.deepcopy(answer) == answer
    assert one.model_copy(update={"embedding": [2.0]}).embedding == [2.0]


def test_a_vector_goes_where_people_put_it() -> None:
    """It pickles, is a buffer, becomes JSON and float lists of Arrow, also through a Parquet file."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    vectors = embeddings(base64.b64encode(PACKED).decode(), NUMBERS).vectors
    assert pickle.loads(pickle.dumps(vectors)) == vectors
    assert memoryview(vectors[0]).tolist() == NUMBERS
    assert bytes(vectors[0]) == PACKED
    assert json.loads(json.dumps(vectors, default=list)) == [NUMBERS, NUMBERS]
    assert repr(vectors[0]) == f"<Vector of 3 floats: {', '.join(f'{number:.4g}' for number in NUMBERS)}>"
    assert pyarrow.array(vectors[0]).type == pyarrow.float32()
    table = pyarrow.table({"vector": vectors})
    assert table.schema.field("vector").type == pyarrow.list_(pyarrow.float32())
    file = io.BytesIO()
    parquet.write_table(table, file)
    assert parquet.read_table(file).to_pydict() == {"vector": [NUMBERS, NUMBERS]}
    with pytest.raises(pyarrow.ArrowInvalid, match="Vector"):  # and never bytes
        pyarrow.array(list(vectors))


def test_a_list_that_came_is_the_list_held() -> None:
    """So that a change to it is seen."""
    one = embeddings(NUMBERS).data[0]
    one.embedding.append(3.0)
    assert one.embedding[-1] == one.vector[-1] == 3.0


def test_base64_that_was_asked_for_is_given() -> None:
    """`encoding_format="base64"` answers text, as the official client does; the vector is there all the same."""
    text = base64.b64encode(PACKED).decode()
    answer = embeddings(text)
    return_base64(answer)
    assert answer.data[0].embedding == text
    assert answer.to_dict()["data"][0]["embedding"] == text
    assert copy.copy(answer.data[0]).embedding == text
    assert answer.data[0].vector.tolist() == NUMBERS
    assert answer.data[0].extra == {}


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    """By index, wherever the server put them; in the order that came when it gave no indexes."""
    assert [view.tolist() for view in embeddings([1.0], [2.0], [3.0], indexes=(2, 0, 1)).vectors] == [
        [2.0],
        [3.0],
        [1.0],
    ]
    assert [view.tolist() for view in embeddings([1.0], [2.0], indexes=(None, 0)).vectors] == [[1.0], [2.0]]
    assert CreateEmbeddingResponse.model_construct().vectors == []


@pytest.mark.parametrize(
    "sent",
    ["AAAAAAA=", "not base64", [1.0, "x"], None, {"a": 1}, 5],
    ids=["five bytes", "text", "mixed", "null", "object", "number"],
)
def test_what_is_no_vector_is_left_as_it_came(sent: Any) -> None:
    """The answer arrives and dumps; only asking for the vector is an error."""
    answer = embeddings(sent)
    assert answer.data[0].embedding == sent
    assert answer.to_dict()["data"][0]["embedding"] == sent
    with pytest.raises(ValueError, match="embedding"):
        answer.data[0].vector  # noqa: B018
    with pytest.raises(ValueError, match="embedding"):
        answer.vectors  # noqa: B018


def test_a_big_endian_host_swaps_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings travel in little-endian order: on the other kind of host the same numbers come out."""
    monkeypatch.setattr(answers, "_SWAPPED", True)
    swapped = struct.pack(">3f", *NUMBERS)
    one = Embedding(index=0, object="embedding", value=swapped)
    assert one.vector.tolist() == NUMBERS
    assert one.embedding == NUMBERS


def test_generated_answers_have_these_properties() -> None:
    """The generator applied each class where it belongs."""
    assert issubclass(ChatCompletion, answers.ChatCompletionText)
    assert issubclass(ChatCompletionChunk, answers.ChunkText)
    assert issubclass(Completion, answers.CompletionText)
    assert issubclass(Embedding, answers.EmbeddingValue)
    assert issubclass(CreateEmbeddingResponse, answers.Vectors)


def test_an_embedding_that_is_not_an_object_is_named() -> None:
    """Null in the list of embeddings is the server's error, not an attribute that is missing."""
    answer = CreateEmbeddingResponse.model_validate({"data": [{"embedding": [1.0]}, None], "model": "m"})
    with pytest.raises(ValueError, match="not an object"):
        _ = answer.vectors
