"""Mistakes that have to be reported: behind each, the code of mypy's error and the rule of pyright's."""

# pyright: standard, reportUnnecessaryComparison=true
# fmt: off

from __future__ import annotations

from openaiasync import AsyncOpenAI, Client, IncompleteStreamError, Timeout
from openaiasync.types.chat import ChatCompletion, ChatCompletionMessageParam
from openaiasync.types.responses import ResponseOutputItem


async def parameters(client: Client) -> None:
    create = client.chat.completions.create
    await client.chat("Hello", temprature=0.5)  # call-arg | reportCallIssue
    await client.chat("Hello", temperature="warm")  # arg-type | reportArgumentType
    await client.chat("Hello", stream=True)  # call-arg | reportCallIssue
    await client.chat(7)  # arg-type | reportArgumentType
    await client.chat("Hello", timeout="3 s")  # arg-type | reportArgumentType
    await client.chat("Hello", reasoning_effort="heroic")  # arg-type | reportArgumentType
    await client.chat("Hello", on_error=lambda event: event.answer)  # attr-defined | reportAttributeAccessIssue
    await create(model="m")  # call-overload | reportCallIssue
    await create(messages=[], model="m", stream="yes")  # call-overload | reportArgumentType,reportCallIssue
    await create(messages=[{"role": "usr", "content": "Hello"}], model="m")  # list-item,misc | reportArgumentType
    await create("Hello", model="m")  # call-overload | reportCallIssue
    await client.embeddings.create(input="a")  # call-arg | reportCallIssue
    await client.files.create(file="a.jsonl", purpose="batch")  # arg-type | reportArgumentType
    await client.files.create(file=b"", purpose="lunch")  # arg-type | reportArgumentType
    await client.files.retrieve()  # call-arg | reportCallIssue


async def answers(answer: ChatCompletion, item: ResponseOutputItem) -> None:
    print(answer.txt)  # attr-defined | reportAttributeAccessIssue
    print(answer.choices[0].mesage)  # attr-defined | reportAttributeAccessIssue
    print(answer.usage.total_tokens)  # union-attr | reportOptionalMemberAccess
    print(answer.choices[0].message.content.upper())  # union-attr | reportOptionalMemberAccess
    print(answer.choices[0].finish_reason == "stopped")  # comparison-overlap | reportUnnecessaryComparison
    if item.type == "function_call":
        print(item.content)  # attr-defined | reportAttributeAccessIssue
    print(item.arguments)  # union-attr | reportAttributeAccessIssue


async def results(client: AsyncOpenAI) -> None:
    number: int = await client.chat.completions.create(messages=[], model="m")  # assignment | reportAssignmentType
    text: str = client.chat("Hello")  # assignment | reportAssignmentType
    create = client.chat.completions.create
    async for chunk in create(messages=[], model="m", stream=True):  # attr-defined | reportGeneralTypeIssues
        print(chunk)
    await client.chat.run_tools("Hello")  # call-arg | reportCallIssue
    await client.chat.run_tools("Hello", tools=[len], n=2)  # call-arg | reportCallIssue
    await client.chat.run_tools("Hello", tools=["len"])  # list-item | reportArgumentType
    session = client.chat.session(policy="forget")  # arg-type | reportArgumentType
    await session.say("Hello", n=2)  # call-overload | reportCallIssue
    for model in client.models.list():  # attr-defined | reportGeneralTypeIssues
        print(model)
    page = await client.files.list()
    print(page.data[0].identifier, number, text)  # attr-defined | reportAttributeAccessIssue


def rest(error: IncompleteStreamError) -> None:
    AsyncOpenAI(api_base="http://localhost:8000/v1")  # call-arg | reportCallIssue
    Client(base_url="http://localhost:8000/v1")  # call-arg | reportCallIssue
    Client(on_request=3)  # arg-type | reportArgumentType
    Client(http_timeout="long")  # arg-type | reportArgumentType
    Client(http_timeot=3)  # call-arg | reportCallIssue
    Client().with_options(http_timeot=3)  # call-arg | reportCallIssue
    AsyncOpenAI(timeout="long")  # arg-type | reportArgumentType
    Timeout(3, reed=5)  # call-arg | reportCallIssue
    print(error.clock)  # attr-defined | reportAttributeAccessIssue
    message: ChatCompletionMessageParam = {"role": "user"}  # typeddict-item | reportAssignmentType
    other: ChatCompletionMessageParam = {  # assignment | reportAssignmentType
        "role": "user",
        "content": "Hello",
        "colour": "red",
    }
    print(message, other, AsyncOpenAI.chatt)  # attr-defined | reportAttributeAccessIssue
