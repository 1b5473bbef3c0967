"""Tables in and out of jobs and runs, costs with genai-prices, and the page of a report."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import run
from openaiasync import Client, InputFileError, Job, JobError, JobReport, TableOptions
from openaiasync.bulk.progress import TimelinePoint, price_for
from openaiasync.bulk.report import html_page
from openaiasync.bulk.sources import rows_of
from openaiasync.bulk.tables import export_results
from scripted import CHAT, Seen, json_answer, scripted


@pytest.fixture
def arrow() -> Any:
    pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra [data])")
    return pytest.importorskip("pyarrow")


async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
    message = {"role": "assistant", "content": seen.json()["messages"][-1]["content"]}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    writer.write(json_answer({**CHAT, "choices": [choice], "usage": usage}))


def job(source: Path, out: Path, prompt: str = "{text}", **options: Any) -> tuple[JobReport, list[str]]:
    """Run a job over a table; its report, and the prompts that reached the server."""
    options = {"table": TableOptions(prompt), "model": "m", "max_in_flight": 4, **options}

    async def main() -> tuple[JobReport, list[str]]:
        async with scripted(echo) as server, Client(api_base=server.url, api_key="k") as client:
            report = await client.job(source, out, **options)
            return report, [seen.json()["messages"][-1]["content"] for seen in server.seen]

    return run(main())


def write(arrow: Any, path: Path, columns: dict[str, Any], **options: Any) -> Path:
    arrow.parquet.write_table(arrow.table(columns), path, **options)
    return path


def test_parquet_in_and_out(arrow: Any, tmp_path: Path) -> None:
    """Rows of all row groups are sent; the output is Parquet with typed columns, and the answers are beside it."""
    texts = [None if number == 5 else f"text {number}" for number in range(70)]
    source = write(arrow, tmp_path / "in.parquet", {"id": list(range(70)), "text": texts}, row_group_size=16)
    assert arrow.parquet.ParquetFile(source).num_row_groups == 5
    out = tmp_path / "out.parquet"
    report, sent = job(source, out)
    assert (report.ok, report.table, report.out) == (70, str(out), str(tmp_path / "out.jsonl"))
    assert str(report).startswith(f"{out}: 70 of 70")
    assert sorted(sent) == sorted(text or "" for text in texts)
    table = arrow.parquet.read_table(out)
    assert table.column("custom_id").to_pylist() == [str(number) for number in range(70)]
    assert table.column("text").to_pylist() == [text or "" for text in texts]
    assert table.schema.field("input_tokens").type == arrow.int64()
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 70
    out.unlink()
    again, sent = job(source, out)  # sends nothing, makes the table again
    assert (again.ok, sent, arrow.parquet.read_table(out).num_rows) == (70, [], 70)


def test_values_of_parquet_in_prompts(arrow: Any, tmp_path: Path) -> None:
    """Every type has one text: structures are JSON, bytes UTF-8, times keep nanoseconds, null is empty."""
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    columns = {
        "time": arrow.array([when.replace(tzinfo=None)]),
        "ns": arrow.array([1_700_000_000_000_000_001], arrow.timestamp("ns")),
        "date": arrow.array([when.date()]),
        "price": arrow.array([decimal.Decimal("1.50")]),
        "raw": arrow.array(["schön".encode()]),
        "list": arrow.array([[1, 2, None]]),
        "struct": arrow.array([{"a": 1, "b": "ü"}]),
        "kind": arrow.array(["x"]).dictionary_encode(),
        "none": arrow.nulls(1),
        "yes": arrow.array([True]),
    }
    source = write(arrow, tmp_path / "in.parquet", columns)
    prompt = "|".join(f"{{{name}}}" for name in columns)
    _, sent = job(source, tmp_path / "out.jsonl", prompt)
    assert sent == [
        '2026-01-02 03:04:05|2023-11-14 22:13:20.000000001|2026-01-02|1.50|schön|[1,2,null]|{"a":1,"b":"ü"}|x||True'
    ]


@pytest.mark.parametrize(
    ("prompt", "key", "said"),
    [
        ("{nope}", None, "there is no column 'nope'; columns are text, raw"),
        ("{raw}", None, "row 2: column 'raw' is binary data that is not text in UTF-8"),
        ("{text}", "text", "row 2: column 'text' names the rows, but is empty here"),
    ],
)
def test_parquet_that_cannot_be_asked(arrow: Any, tmp_path: Path, prompt: str, key: str | None, said: str) -> None:
    """A missing column, binary data and an empty key are named before anything is sent, and leave no job."""
    source = write(arrow, tmp_path / "in.parquet", {"text": ["a", None], "raw": [b"a", b"\xff"]})
    with pytest.raises(InputFileError) as caught:
        job(source, tmp_path / "out.jsonl", table=TableOptions(prompt, key=key))
    assert said in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_file_that_is_not_parquet(arrow: Any, tmp_path: Path) -> None:
    """Other bytes under the name of a Parquet file are an error of the input."""
    (tmp_path / "in.parquet").write_bytes(b"id,text\n1,a\n")
    with pytest.raises(InputFileError, match="not Parquet"):
        job(tmp_path / "in.parquet", tmp_path / "out.jsonl")


def test_a_table_is_not_written_over_the_input(tmp_path: Path) -> None:
    """Neither the table nor the answers that it is made of may be the input."""
    for name, out in (("in.csv", "in.csv"), ("in.jsonl", "in.parquet")):
        (tmp_path / name).write_text("text\na\n")
        options: dict[str, Any] = {"table": TableOptions("{text}")} if name == "in.csv" else {}
        if out.endswith("parquet"):
            pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra [data])")

        async def main(name: str = name, out: str = out, options: dict[str, Any] = options) -> None:
            async with Client(api_base="http://127.0.0.1:9", api_key="k") as client:
                with pytest.raises(ValueError, match="is the input and would be overwritten"):
                    Job([client], tmp_path / name, tmp_path / out, **options)

        run(main())
        assert (tmp_path / name).read_text() == "text\na\n"


def answer_line(number: int, text: str) -> str:
    body = {"choices": [{"finish_reason": "stop", "message": {"content": text}}], "usage": {"prompt_tokens": 3}}
    return json.dumps({"custom_id": f"k{number}", "response": {"status_code": 200, "body": body}, "error": None}) + "\n"


def test_columns_of_all_rows_with_types_that_fit_them(arrow: Any, tmp_path: Path) -> None:
    """Fields of JSON answers are columns wherever they first occur; values of several types are JSON text."""
    first = {"label": "good", "score": 1, "tags": ["a"], "mixed": 1, "none": None, "big": 2**70, "nested": {"a": [1]}}
    last = {"label": None, "score": 0.5, "tags": [], "mixed": "one", "none": None, "late": True}
    answers = [first] * 5_100 + [last]
    file, out = tmp_path / "out.jsonl", tmp_path / "t.parquet"
    file.write_text("".join(answer_line(number, json.dumps(answer)) for number, answer in enumerate(answers)))
    assert export_results([str(file)], str(out)) == 5_101
    table = arrow.parquet.read_table(out)
    rows = table.to_pylist()
    kinds = {
        "label": arrow.string(),
        "score": arrow.float64(),
        "late": arrow.bool_(),
        "tags": arrow.list_(arrow.string()),
    }
    assert {name: table.schema.field(name).type for name in kinds} == kinds
    assert rows[0] == {
        "custom_id": "k0", "text": json.dumps(first), "finish_reason": "stop", "input_tokens": 3, "output_tokens": None,
        "error": None, "label": "good", "score": 1.0, "tags": ["a"], "mixed": "1", "none": None, "big": str(2**70),
        "nested": '{"a":[1]}', "late": None,
    }  # fmt: skip
    assert (rows[-1]["score"], rows[-1]["tags"], rows[-1]["mixed"], rows[-1]["late"]) == (0.5, [], "one", True)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["out.jsonl", "t.parquet"]


def test_embeddings_and_nothing_as_parquet(arrow: Any, tmp_path: Path) -> None:
    """Vectors, in base64 too, are lists of float32; no rows are a table with the fixed columns."""
    file, out = tmp_path / "out.jsonl", tmp_path / "t.parquet"
    file.write_text("")
    assert export_results([str(file)], str(out)) == 0
    assert arrow.parquet.read_table(out).column_names[:2] == ["custom_id", "text"]
    import base64

    vectors: list[Any] = [[0.5, 1.0], base64.b64encode(struct.pack("<2f", 0.25, -2.0)).decode()]
    lines = [
        json.dumps({"custom_id": f"k{number}", "response": {"body": {"data": [{"embedding": vector}]}}, "error": None})
        for number, vector in enumerate(vectors)
    ]
    file.write_text("\n".join(lines) + "\n")
    export_results([str(file)], str(out))
    column = arrow.parquet.read_table(out).column("embedding")
    assert column.type == arrow.list_(arrow.float32())
    assert column.to_pylist() == [[0.5, 1.0], [0.25, -2.0]]


# -------------------------------------------------------------------------------------------------- rows of a run

COLUMNS = {"id": list(range(2_500)), "text": [f"t{number}" for number in range(2_500)]}
ROWS = [{"id": number, "text": f"t{number}"} for number in range(2_500)]


def listed(source: Any) -> list[Any]:
    rows: Any = rows_of(source)
    return list(rows)


def test_what_pyarrow_has_rows_in(arrow: Any, tmp_path: Path) -> None:
    """Tables, batches, readers, files and data sets give dicts, columns give values: plain ones, in their order."""
    dataset = pytest.importorskip("pyarrow.dataset")
    table = arrow.table(COLUMNS)
    path = write(arrow, tmp_path / "t.parquet", COLUMNS, row_group_size=700)
    for source in (table, table.to_batches()[0], table.to_reader(), dataset.dataset(path)):
        assert listed(source) == ROWS, type(source)
    with arrow.parquet.ParquetFile(path) as file:
        assert listed(file) == ROWS
    assert listed(table.column("text")) == COLUMNS["text"]
    assert listed(arrow.array(COLUMNS["text"])) == COLUMNS["text"]


def test_map_over_a_pyarrow_table(arrow: Any) -> None:
    """Each row of a table is a call, with its own key, and the answers are in its order."""

    async def main() -> None:
        async with scripted(echo) as server, Client(api_base=server.url, api_key="k") as client:
            table = arrow.table(COLUMNS).slice(0, 40)
            ask = lambda row: {"messages": [{"role": "user", "content": row["text"]}]}  # noqa: E731
            rows = await client.map(table, ask, model="m", key=lambda row: row["id"])
            assert [(row.key, row.answer.choices[0].message.content) for row in rows] == [
                (number, f"t{number}") for number in range(40)
            ]

    run(main())


@pytest.mark.parametrize("module", ["pandas", "polars"])
def test_data_frames(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of real data frames are dicts by column name."""
    monkeypatch.setenv("_RJEM_MALLOC_CONF", "")  # which polars sets when it is imported
    library = pytest.importorskip(module, reason=f"{module} is not installed")
    assert listed(library.DataFrame(COLUMNS)) == ROWS


@pytest.mark.parametrize("format", [None, "numpy", "arrow"])
def test_data_sets(format: str | None) -> None:
    """Rows of a data set of Hugging Face are plain values, whatever format it has for training."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    source = datasets.Dataset.from_dict(COLUMNS).with_format(format)
    found = listed(source)
    assert found == ROWS
    assert {type(value) for value in found[0].values()} == {int, str}
    with pytest.raises(TypeError, match="DatasetDict with 'train'"):
        rows_of(datasets.DatasetDict({"train": source}))


# -------------------------------------------------------------------------------------------------- costs


def test_a_cost_limit_with_the_prices_of_a_package(tmp_path: Path) -> None:
    """The price of a known model is found, for prompts of ordinary length, and stops the job."""
    pytest.importorskip("genai_prices", reason="genai-prices is not installed (extra [prices])")
    price = price_for("gpt-4o-mini", None)
    assert price == pytest.approx((0.15, 0.6))
    long, short = price_for("claude-sonnet-4-5", None), pytest.approx((3.0, 15.0))
    assert long == short  # and not that of prompts above 200,000 tokens
    assert price_for("no-such-model", None) is None
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "".join(f"row {number}\n" for number in range(100)))
    each = (1000 * 0.15 + 500 * 0.6) / 1e6
    report, _ = job(source, tmp_path / "out.jsonl", model="gpt-4o-mini", max_cost=20 * each, max_in_flight=2)
    assert report.stopped == "cost"
    assert 15 <= report.ok <= 21
    assert report.cost == pytest.approx(report.ok * each)


def test_a_cost_limit_needs_prices(tmp_path: Path) -> None:
    """A limit that could not be kept, since a model's price is not known, is refused before anything is sent."""
    source = tmp_path / "in.csv"
    source.write_text("text\na\n")
    with pytest.raises(JobError, match="needs the price of no-such-model"):
        job(source, tmp_path / "out.jsonl", model="no-such-model", max_cost=1.0)
    report, _ = job(source, tmp_path / "out.jsonl", model="no-such-model", max_cost=1.0, prices={"*": (1.0, 2.0)})
    assert (report.ok, report.cost) == (1, pytest.approx(0.002))


# -------------------------------------------------------------------------------------------------- the page


def report_of(samples: int, last: float = 1.0) -> JobReport:
    points = [
        TimelinePoint(at=number + 1.0, seconds=1.0, rows=100, failed=1, p50=0.1, p90=0.2, p99=0.4, limit=64,
                      in_flight=30, refused=2, tokens=5000)
        for number in range(samples)
    ]  # fmt: skip
    if last < 1:
        points.append(msgspec.structs.replace(points[-1], at=samples + last, seconds=last, rows=0))
    return JobReport(
        out="/home/me/<b>.jsonl", errors="/home/me/<b>.errors.jsonl", rows=2100, ok=2000, failed=100, timeline=points,
        seconds=20.0, failures={"HTTP 400 <script>": 100}, latency={"p50": 0.1},
    )  # fmt: skip


def test_the_page_of_a_report() -> None:
    """Names are escaped, folders are not told, ticks are round, and a last moment does not bend the curves."""
    page = html_page(report_of(24, last=0.01))
    assert "<b>.jsonl" not in page
    assert "<script>" not in page
    assert "/home/me" not in page
    assert ">20 s</text>" in page
    assert ">5 s</text>" in page
    assert page == html_page(report_of(24))
    assert "too short for plots" in html_page(report_of(1))
