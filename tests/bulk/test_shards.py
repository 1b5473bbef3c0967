"""Shards over real sockets and files: every row in exactly one of them, and one output made of all."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from openaiasync import Client, InputFileError, JobChangedError, JobError, JobReport, TableOptions, merge_shards
from openaiasync.bulk.merging import _Timeline
from openaiasync.bulk.progress import TimelinePoint
from openaiasync.bulk.shards import Shard, fingerprint_of, line_range, row_range
from openaiasync.cli.command_line import run as command

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "bench" / "bulk"))
from serving import Server, running  # noqa: E402


@pytest.fixture(scope="module")
def simulated() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def api(simulated: Server) -> Server:
    simulated.set(latency=0, bad=0, rpm=0, jitter=0, slots=0)
    simulated.reset()
    return simulated


def write_rows(path: Path, count: int, *, first: int = 0, model: str = "m") -> Path:
    with open(path, "w") as file:
        for number in range(first, first + count):
            text = f"row-{number} {'x' * (number * 37 % 300)}"
            body = {"model": model, "messages": [{"role": "user", "content": text}]}
            row = {"custom_id": f"k{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(row) + "\n")
    return path


def keys_of(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()] if path.exists() else []


def answers_of(path: Path) -> list[tuple[str, Any]]:
    """Names and bodies: what does not differ between two jobs for one input."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["custom_id"], row["response"]["body"]["choices"][0]["message"]["content"]) for row in rows]


async def job(api: Server, source: Path, out: Path, shard: Any = None, **options: Any) -> JobReport:
    async with Client(api_base=api.base) as client:
        return await client.job(source, out, shard=shard, **options)


# -------------------------------------------------------------------------------------------------- the cut


@pytest.mark.parametrize("total", [1, 2, 3, 7, 64, 1000])
def test_every_line_is_in_one_shard(tmp_path: Path, total: int) -> None:
    """The ranges of all shards follow each other without a gap, and every border is the start of a line."""
    chance = random.Random(total)
    for text in (
        "".join("x" * chance.randrange(90) + "\n" for _ in range(200)),
        "one line without an end",
        "\n\n\n",
        "long" * 50_000 + "\nshort\n" * 3,
        "a\n" * 5 + "no end",
    ):
        path = tmp_path / "in"
        path.write_text(text)
        size = len(text)
        ranges = [line_range(str(path), size, Shard(number, total)) for number in range(total)]
        assert ranges[0][0] == 0
        assert ranges[-1][1] == size
        for (_, end), (start, _) in pairwise(ranges):
            assert end == start
            assert end in (0, size) or text[end - 1] == "\n"
        lines = len(text.split("\n"))
        assert max(text.count("\n", *one) for one in ranges) <= lines / total * 3 + 2 or lines < 10


def test_a_border_reads_no_more_than_its_neighbourhood(tmp_path: Path) -> None:
    """The last border of a file of 10 TB is found at once; nothing before it is read."""
    path = tmp_path / "in"
    with open(path, "wb") as file:
        file.truncate(10 << 40)
        file.seek((10 << 40) * 999 // 1000 + 100)
        file.write(b"\n")
    began = time.process_time()
    assert line_range(str(path), 10 << 40, Shard(999, 1000)) == ((10 << 40) * 999 // 1000 + 101, 10 << 40)
    assert len(fingerprint_of(str(path))) == 32
    assert time.process_time() - began < 1


def test_rows_of_tables_are_divided(tmp_path: Path) -> None:
    """Every row number is in one part, and parts differ by one row at most."""
    for rows in (0, 1, 5, 1000, 1001):
        parts = [row_range(rows, Shard(number, 7)) for number in range(7)]
        assert [row for first, end in parts for row in range(first, end)] == list(range(rows))
        sizes = {end - first for first, end in parts}
        assert max(sizes) - min(sizes) <= 1


def test_names_of_shards() -> None:
    """A number counts from 0 unless the first one is said to be another; what cannot be right is refused."""
    assert Shard.of("0/4") == Shard(0, 4) == Shard.of((0, 4))
    assert Shard.of("4/4", first=1) == Shard(3, 4)
    for text, first, words in (
        ("4/4", 0, "numbers 0 to 3, not 4; they count from 0, and with --first-shard 1 from 1"),
        ("0/4", 1, "numbers 1 to 4, not 0"),
        ("-1/4", 0, "numbers 0 to 3"),
        ("1", 0, "NUMBER/TOTAL"),
        ("/", 0, "NUMBER/TOTAL"),
        ("1/0", 0, "number of shards"),
        ("1/2/3", 0, "NUMBER/TOTAL"),
        ((1.5, 4), 0, "NUMBER/TOTAL"),
    ):
        with pytest.raises(ValueError, match="shard") as caught:
            Shard.of(text, first)
        assert words in str(caught.value)


# -------------------------------------------------------------------------------------------------- runs


@pytest.mark.commands
def test_merged_shards_equal_one_run(api: Server, tmp_path: Path) -> None:
    """Answers, failures, order and counts are those of one machine; each row is sent once; merging can be repeated."""
    api.set(bad=0.05)
    source = write_rows(tmp_path / "in.jsonl", 300)

    async def shards() -> list[JobReport]:
        return await asyncio.gather(*(job(api, source, tmp_path / "out.jsonl", (n, 5)) for n in range(5)))

    reports = asyncio.run(shards())
    assert sum(report.rows for report in reports) == 300
    assert min(report.rows for report in reports) > 20
    assert api.report()["requests"] == 300
    merged = asyncio.run(merge_shards(tmp_path / "out.jsonl", report=tmp_path / "page.html"))
    whole = asyncio.run(job(api, source, tmp_path / "whole.jsonl"))
    assert answers_of(tmp_path / "out.jsonl") == answers_of(tmp_path / "whole.jsonl")
    assert keys_of(tmp_path / "out.errors.jsonl") == keys_of(tmp_path / "whole.errors.jsonl")
    for name in ("rows", "ok", "failed", "requests", "input_tokens", "failures", "left", "stopped"):
        assert getattr(merged, name) == getattr(whole, name), name
    assert merged.output_tokens == sum(report.output_tokens for report in reports)
    assert merged.failed > 3
    assert sum(point.rows for point in merged.timeline) == 300
    assert 0 < merged.latency["p50"] <= merged.latency["p99"] < 30
    assert "</html>" in (tmp_path / "page.html").read_text()
    assert asyncio.run(merge_shards(tmp_path / "out.jsonl")).ok == merged.ok
    # The shards go on to be jobs: the same call sends nothing, a retry sends what failed.
    api.set(bad=0)
    api.reset()
    asyncio.run(shards())
    assert api.report()["requests"] == 0
    assert command(["retry", str(tmp_path / "out.jsonl"), "--base-url", api.base]) == 0
    assert api.report()["requests"] == merged.failed
    assert keys_of(tmp_path / "out.jsonl") == [f"k{number}" for number in range(300)]
    assert not (tmp_path / "out.errors.jsonl").exists()


def test_more_shards_than_rows(api: Server, tmp_path: Path) -> None:
    """Shards without a row end at once, with success, and count as done."""
    source = write_rows(tmp_path / "in.jsonl", 3)
    for number in range(8):
        report = asyncio.run(job(api, source, tmp_path / "out.jsonl", f"{number}/8"))
        assert report.left == 0
    assert asyncio.run(merge_shards(tmp_path / "out.jsonl")).ok == 3
    assert keys_of(tmp_path / "out.jsonl") == ["k0", "k1", "k2"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_are_cut_by_rows(api: Server, tmp_path: Path, kind: str) -> None:
    """Rows keep their number as a name, whatever shard they are in; quoted line breaks do not matter; the merged output
    is a table if the output is one."""
    texts = [f'row-{number}\n"quoted",\n' for number in range(50)]
    source = tmp_path / f"in.{kind}"
    if kind == "csv":
        source.write_text("text\n" + "".join('"' + text.replace('"', '""') + '"\n' for text in texts))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"text": texts}), source, row_group_size=9)
    out = tmp_path / "out.csv"
    for number in range(4):
        asyncio.run(job(api, source, out, (number, 4), table=TableOptions("Say {text}"), model="m"))
    assert not out.exists()
    merged = asyncio.run(merge_shards(out))
    assert (merged.rows, merged.ok, merged.table) == (50, 50, str(out))
    found = answers_of(tmp_path / "out.jsonl")
    assert [key for key, _ in found] == [f"row-{number}" for number in range(1, 51)]
    assert all(f"(row-{number})" in text for number, (_, text) in enumerate(found))
    assert len(out.read_text().splitlines()) == 51


def test_a_part_of_parquet_reads_its_row_groups_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of a Parquet file decodes only the row groups that its rows are in."""
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    from openaiasync.bulk.tables import write_requests

    source = tmp_path / "in.parquet"
    parquet.write_table(pyarrow.table({"text": [str(n) for n in range(100)]}), source, row_group_size=10)
    read: list[list[int]] = []
    original = parquet.ParquetFile.iter_batches

    def noted(self: Any, *given: Any, row_groups: list[int], **more: Any) -> Any:
        read.append(row_groups)
        return original(self, *given, row_groups=row_groups, **more)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noted)
    for part, groups in (((25, 50), [2, 3, 4]), ((0, 10), [0]), ((99, 100), [9]), ((100, 100), [])):
        read.clear()
        write_requests(str(source), str(tmp_path / "made"), TableOptions("{text}"), part)
        rows = [json.loads(line) for line in (tmp_path / "made").read_text().splitlines()]
        assert [row["body"]["messages"][0]["content"] for row in rows] == [str(n) for n in range(*part)]
        assert read == ([groups] if groups else [])


# -------------------------------------------------------------------------------------------------- mistakes


def test_what_lacks_is_named(api: Server, tmp_path: Path) -> None:
    """An incomplete set is an error that names shards and reasons; `partial` merges what there is, with exit code 1."""
    source, out = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    with pytest.raises(JobError, match="has no shards"):
        asyncio.run(merge_shards(out))
    asyncio.run(job(api, source, out, (0, 4)))
    with pytest.raises(JobError, match=r"3 of the 4 shards .* 1 has not started.*Is .* on a file system that all"):
        asyncio.run(merge_shards(out))
    asyncio.run(job(api, source, out, (3, 4)))
    api.set(latency=0.05)

    async def stopped() -> JobReport:
        async with Client(api_base=api.base) as client:
            one = client.job(source, out, shard=(1, 4), max_in_flight=1)
            asyncio.get_running_loop().call_later(0.2, one.stop)
            return await one

    left = asyncio.run(stopped()).left
    assert left
    with pytest.raises(JobError) as caught:
        asyncio.run(merge_shards(out))
    assert "2 of the 4 shards" in str(caught.value)
    assert f"1 has {left} of" in str(caught.value)
    assert not out.exists()
    merged = asyncio.run(merge_shards(out, partial=True))
    assert merged.stopped
    assert keys_of(out)[0] == "k0"
    assert keys_of(out)[-1] == "k39"
    assert merged.ok == len(keys_of(out)) < 40
    assert merged.left > 0
    assert command(["merge", str(out), "--partial"]) == 1
    assert command(["merge", str(out)]) == 1


def test_shards_that_do_not_belong_together_send_nothing(api: Server, tmp_path: Path) -> None:
    """Another number of shards, input, setting or version, and a used output, are refused before a request."""
    source, out = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    asyncio.run(job(api, source, out, (0, 4)))
    api.reset()

    def refused(error: type[Exception], words: str, **options: Any) -> None:
        given = {"source": source, "out": out, "shard": (1, 4), **options}
        with pytest.raises(error, match=words):
            asyncio.run(job(api, **given))

    refused(JobChangedError, r"cut into 4 shards, not 5.*SLURM_ARRAY_TASK_COUNT", shard=(1, 5))
    refused(JobChangedError, r"another model \(was null, is \"other\"\)", model="other")
    refused(JobChangedError, r"another params", params={"temperature": 1})
    refused(JobChangedError, r"another order", order="completion")
    refused(JobError, r"is the output of shards: merge them", shard=None)
    refused(ValueError, "report: each shard", report=tmp_path / "page.html")
    refused(JobError, "was not merged from shards", source=source, out=write_rows(tmp_path / "other.jsonl", 1))
    plan = out.with_name("out.jsonl.shards") / "plan.json"
    known = plan.read_text()
    plan.write_text(known.replace('"library": "', '"library": "9.'))
    refused(JobChangedError, r"begun with openaiasync 9\..*install openaiasync==9\.")
    plan.write_text("{")
    refused(JobError, "is not a plan of shards")
    plan.write_text(known)
    write_rows(source, 41)
    refused(JobChangedError, r"has [\d,]+ bytes; it had [\d,]+ when the first shard")
    write_rows(source, 40)
    source.write_text(source.read_text().replace("row-39", "row-93"))
    refused(JobChangedError, "has other contents than when the first shard")
    assert api.report()["requests"] == 0


def test_the_whole_input_is_checked_first(api: Server, tmp_path: Path) -> None:
    """A name that lines of different shards have, and a bad line of another shard, are found before a request."""
    source = write_rows(tmp_path / "in.jsonl", 40)
    with open(source, "a") as file:
        file.write(source.read_text().splitlines()[0] + "\nnonsense\n")
    with pytest.raises(InputFileError, match=r"line 41: custom_id 'k0' is that of line 1, too; line 42: not JSON"):
        asyncio.run(job(api, source, tmp_path / "out.jsonl", (0, 4)))
    assert not (tmp_path / "out.jsonl.shards").exists()
    assert api.report()["requests"] == 0


def test_a_large_input_is_checked_in_parts(api: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the input is too large for every shard to read, each checks its own lines, and merging names what rows of
    different shards share."""
    monkeypatch.setattr("openaiasync.bulk.shards._CHECKED", 1000)
    source, out = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    with open(source, "a") as file:
        file.write(source.read_text().splitlines()[1] + "\n")
    for number in range(4):
        asyncio.run(job(api, source, out, (number, 4)))
    merged = asyncio.run(merge_shards(out))
    assert merged.same_name == ["k1"]
    assert "names (custom_id) that several rows have: k1" in str(merged)
    assert merged.ok == 41
    bad = tmp_path / "bad.jsonl"
    bad.write_text(write_rows(tmp_path / "x.jsonl", 40).read_text() + "nonsense\n")
    api.reset()
    with pytest.raises(InputFileError, match=r"lines counted from byte [\d,]+\): line \d+: not JSON"):
        asyncio.run(job(api, bad, tmp_path / "o.jsonl", (3, 4)))
    assert api.report()["requests"] == 0


def test_an_input_that_changes_between_shards_is_found(api: Server, tmp_path: Path) -> None:
    """A change that a shard cannot see, outside of the samples of a large input, is found by merging."""
    source, out = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    for number in range(2):
        asyncio.run(job(api, source, out, (number, 2)))
    about = source.stat()
    source.write_text(source.read_text().replace("row-39", "row-93"))
    with pytest.raises(JobChangedError, match=r"was changed since shard 1 of"):
        asyncio.run(merge_shards(out))
    source.write_text(source.read_text().replace("row-93", "row-39"))
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns + 5))
    assert asyncio.run(merge_shards(out)).ok == 40
    source.unlink()  # a machine that merges need not have it
    assert asyncio.run(merge_shards(out)).ok == 40


def test_a_result_that_was_tampered_with_is_found(api: Server, tmp_path: Path) -> None:
    """A line that was removed from a shard's results, or added, is not merged over."""
    source, out = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    for number in range(2):
        asyncio.run(job(api, source, out, (number, 2)))
    part = tmp_path / "out.jsonl.shards" / "000001.jsonl"
    data = part.read_bytes()
    part.write_bytes(data[: data.rindex(b"\n", 0, -1) + 1])
    with pytest.raises(JobError, match=r"cannot be merged.*000001"):
        asyncio.run(merge_shards(out))
    assert not out.exists()


@pytest.mark.commands
def test_one_process_a_shard(api: Server, tmp_path: Path) -> None:
    """A shard that is running cannot be run or merged by another process; a partial merge takes what it has written."""
    api.set(latency=0.1)
    source, out = write_rows(tmp_path / "in.jsonl", 2000), tmp_path / "out.jsonl"
    part = tmp_path / "out.jsonl.shards" / "000000.jsonl"

    async def both() -> None:
        first = asyncio.create_task(job(api, source, out, (0, 2), max_in_flight=4))
        while not part.exists() or not part.stat().st_size:
            await asyncio.sleep(0.02)
        with pytest.raises(JobError, match="another process is running the job"):
            await job(api, source, out, (0, 2))
        with pytest.raises(JobError, match="0 is running"):
            await merge_shards(out)
        partial = await merge_shards(out, partial=True)
        assert 0 < partial.ok < 1000
        assert keys_of(out) == [f"k{number}" for number in range(partial.ok)]
        api.set(latency=0)
        assert (await first).left == 0

    asyncio.run(both())


# -------------------------------------------------------------------------------------------------- the command line


def test_commands(api: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`run --shard`, counted from 1 too, `status` and `limits set` of all shards, `merge`, `export`, exit codes."""
    source, out = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    words = ["run", str(source), "-o", str(out), "--base-url", api.base]
    assert command([*words, "--shard", "1/2", "--first-shard", "1"]) == 0
    assert "000000.jsonl: " in capfd.readouterr().err
    assert command(["status", str(out)]) == 0
    assert "2 shards, 1 finished, 0 running, 1 not started" in capfd.readouterr().out
    api.set(bad=0.3)
    assert command([*words, "--shard", "1/2"]) == 3
    capfd.readouterr()
    assert command(["status", str(out), "--json"]) == 0
    status = json.loads(capfd.readouterr().out)
    assert status["shards"] == {"total": 2, "started": 2, "finished": 2, "running": 0}
    assert status["rows"] == status["ok"] + status["failed"] == 40
    assert command(["limits", "set", str(out), "--rpm", "60000"]) == 0
    assert [json.loads(path.read_text()) for path in sorted(tmp_path.glob("out.jsonl.shards/*/limits.json"))] == [
        {"rpm": 60000.0}
    ] * 2
    assert command(["merge", str(out)]) == 3
    assert "40 rows answered" in capfd.readouterr().err
    assert command(["export", str(out), str(tmp_path / "t.csv"), "--errors"]) == 0
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 41


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "2/2"], "--first-shard 1"),
        (["--shard", "x"], "NUMBER/TOTAL"),
        (["--first-shard", "1"], "there is no --shard"),
        (["--shard", "/"], "NUMBER/TOTAL"),  # variables of a scheduler that are not set
    ],
)
def test_wrong_shards(words: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A shard that cannot be is wrong usage."""
    source = write_rows(tmp_path / "in.jsonl", 4)
    assert command(["run", str(source), "-o", str(tmp_path / "o"), "--base-url", "http://127.0.0.1:9/v1", *words]) == 2
    assert said in capfd.readouterr().err


def test_stdin_and_compressed_inputs_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What has no byte ranges is refused in words that say what to do."""
    import gzip

    out, rows = str(tmp_path / "o"), write_rows(tmp_path / "in.jsonl", 4)
    assert command(["run", "-", "-o", out, "--shard", "0/2"]) == 2
    assert "stdin cannot be cut into shards" in capfd.readouterr().err
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(rows.read_bytes()))
    assert command(["run", str(packed), "-o", out, "--shard", "0/2", "--base-url", "http://127.0.0.1:9/v1"]) == 2
    assert "unpack it first" in capfd.readouterr().err


def test_a_file_system_of_one_machine_is_named(
    api: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Under Kubernetes or Slurm, an output where no other machine sees it is pointed out."""
    source = write_rows(tmp_path / "in.jsonl", 4)
    words = ["run", str(source), "--base-url", api.base, "--shard", "0/2", "-o"]
    monkeypatch.setattr("openaiasync.cli.shard_commands.local_file_system", lambda path: "overlay")
    assert command([*words, str(tmp_path / "a.jsonl")]) == 0
    assert "overlay" not in capfd.readouterr().err
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert command([*words, str(tmp_path / "b.jsonl")]) == 0
    assert "on a overlay file system, which only" in capfd.readouterr().err


@pytest.mark.commands
def test_the_array_script_resumes_and_merges(api: Server, tmp_path: Path) -> None:
    """The Slurm script, run by bash as a task: it answers its shard, the last task merges; its syntax is right."""
    script = REPOSITORY / "examples" / "slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    source, out = write_rows(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"
    (tmp_path / "key").write_text("sk-test\n")
    for number in range(2):
        path = tmp_path / "openaiasync"
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -m openaiasync "$@"\n')
        path.chmod(0o755)
        text = script.read_text().replace("shards=16", "shards=2")
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(number)}
        env |= {"OPENAI_KEY_FILE": str(tmp_path / "key"), "OPENAI_BASE_URL": api.base}
        done = subprocess.run(
            ["bash", "-c", text, "slurm.sh", str(source), str(out)],
            env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("merged: " in done.stdout) == (number == 1)
    assert keys_of(out) == [f"k{number}" for number in range(20)]


def test_the_manifest_is_an_indexed_job() -> None:
    """The Kubernetes manifest is YAML, its shards are as many as its completions, and its key comes from a secret."""
    yaml = pytest.importorskip("yaml")
    shards, merging = yaml.safe_load_all((REPOSITORY / "examples" / "kubernetes.yaml").read_text())
    spec = shards["spec"]
    assert (shards["kind"], spec["completionMode"], merging["kind"]) == ("Job", "Indexed", "Job")
    (container,) = spec["template"]["spec"]["containers"]
    assert f'--shard "$JOB_COMPLETION_INDEX/{spec["completions"]}" ' in container["args"][0]
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "openai", "key": "key"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {"data"}
    assert "openaiasync merge /data/answers.jsonl " in merging["spec"]["template"]["spec"]["containers"][0]["args"][0]


def test_timelines_are_added_by_second() -> None:
    """Rows of shards that ran at the same time are one point; long points are spread; nothing is lost."""
    merged = _Timeline()
    merged.add(100.0, TimelinePoint(1.0, 1.0, 10, 1, 0, 4, 8, 100, 0.5, 1.0, 2.0))
    merged.add(100.5, TimelinePoint(0.5, 1.0, 30, 0, 2, 6, 8, 300, 0.1, 3.0, 4.0))
    merged.add(200.0, TimelinePoint(5.0, 5.0, 7, 0, 0, 1, 1, 70, 0.1, 0.1, 0.1))
    points = merged.points()
    assert sum(point.rows for point in points) == 47
    assert sum(point.tokens for point in points) == 470
    assert (points[0].rows, points[0].in_flight, points[0].limit, points[0].p90) == (40, 10, 16, 3.0)
    assert points[0].p50 == pytest.approx((0.5 * 10 + 0.1 * 30) / 40)
    assert len(points) == 6
