"""Compare with the peers: run the rows, print medians and ratios, write JSON, plot and `docs/performance.md`.

    python bench/run.py [--rounds 5] [--only small64,burst] [--quick] [--check] [--python PATH]

`--check` measures three rows only and fails where a ratio is missed by more than a fifth, twice in a row.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import payloads
from growth import growth
from others import others
from pause import pauses
from report import print_row, write_page
from rows import MARGIN, ROWS, USUAL, Row
from servers import Place, servers
from tokens import tokens
from workers import measure, more, ratio

HERE = Path(__file__).resolve().parent
PARTS = ("tokens", "others", "growth", "pauses")


def check(place: Place, pythons: dict[str, str]) -> bool:
    """Return whether the three rows meet their targets, each retried once."""
    good = True
    for row in ROWS:
        for peer, aim in row.held:
            for attempt in (1, 2):
                got = ratio(measure(row, place, 3, pythons, ("ours", peer)), peer)
                limit = aim * MARGIN
                verdict = "ok" if got <= limit else "MISSED"
                print(
                    f"{row.name}: {got:.4f} of {peer}, at most {limit:.4f}: {verdict} (attempt {attempt})", flush=True
                )
                if got <= limit:
                    break
            good = good and got <= limit
    return good


def _row(row: Row, place: Place, rounds: int, pythons: dict[str, str], quick: bool) -> dict[str, Any]:
    who = tuple(name for name in row.who if name in USUAL) if quick else row.who
    costs = measure(row, place, rounds, pythons, who)
    ratios = {peer: ratio(costs, peer) for peer in costs if not peer.startswith("ours")}
    found = {"costs": costs, "ratios": ratios, "more": more(costs)}
    print_row(row, found)
    return found


def run(place: Place, pythons: dict[str, str], given: argparse.Namespace) -> None:
    """Run the selected measurements, writing the results so far after each part."""
    wanted = set(filter(None, given.only.split(","))) or {*PARTS, *(row.name for row in ROWS)}
    result: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    result = {"rows": {}, **result, "python": platform.python_version(), "machine": platform.platform()}

    def keep() -> None:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
        if not given.no_page:
            write_page(result)

    for row in ROWS:
        if row.name in wanted:
            result["rows"][row.name] = _row(row, place, given.rounds, pythons, given.quick)
            keep()
    if "tokens" in wanted:
        result["tokens"] = tokens(place, given.rounds, pythons)
        keep()
    if "others" in wanted:
        result["others"] = others(place.base, pythons["peers"], given.rounds)
        keep()
    if "growth" in wanted:
        result["growth"] = growth(place, given.rounds, pythons)
        keep()
    if "pauses" in wanted:
        payloads.write_large(place.folder)
        result["pauses"] = pauses(place.base, pythons["peers"], given.rounds)
    keep()


def _files_allowed() -> None:
    """Allow the open files of 2,000 connections on both sides; child processes inherit the limit."""
    import resource

    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 16_384 if most == resource.RLIM_INFINITY else min(most, 16_384)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(least, enough), most))


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=5)
    parts = ", ".join(f"`{part}`" for part in PARTS)
    words.add_argument(
        "--only", default="", help=f"names of rows, {parts}, separated by commas; other results are kept"
    )
    words.add_argument("--quick", action="store_true", help="leave out the slow and unusual contenders")
    words.add_argument("--check", action="store_true")
    words.add_argument("--python", help="an interpreter whose environment has the peers")
    words.add_argument("--litellm-python")
    words.add_argument("--out", type=Path, default=HERE / "results.json")
    words.add_argument("--no-page", action="store_true", help="write the JSON only")
    given = words.parse_args()
    home = HERE / ".envs"
    peers = given.python or str(home / "peers" / "bin" / "python")
    pythons = {"peers": peers, "litellm": given.litellm_python or str(home / "litellm" / "bin" / "python")}
    if not Path(peers).exists():
        print("run bench/prepare.py first, or name an interpreter with --python", file=sys.stderr)
        return 2
    if not Path(pythons["litellm"]).exists():
        pythons["litellm"] = peers
    _files_allowed()
    began = time.monotonic()
    with servers(peers, tls=not given.check) as place:
        if given.check:
            return 0 if check(place, pythons) else 1
        run(place, pythons, given)
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
