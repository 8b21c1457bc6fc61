"""Prints a run's results as Markdown tables: least times, the peer's by ours, and where ours goes.

Usage: report.py DIR, with files of JSON lines: exact24, exact16 and peer, each -cpu and -gpu.
"""

import json
import sys
from pathlib import Path


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def show(nanos: int) -> str:
    if nanos >= 1_000_000:
        return f"{nanos / 1e6:,.2f} ms"
    return f"{nanos / 1e3:,.1f} us"


def main() -> None:
    folder = Path(sys.argv[1])
    for kind, peer in (("cpu", "ONNX Runtime, 1 thread"), ("gpu", "ONNX Runtime WebGPU")):
        # One line a model and batch size, in the same order everywhere.
        files = (read(folder / f"{who}-{kind}") for who in ("exact24", "exact16", "peer"))
        lines = list(zip(*files, strict=True))
        print(f"\n{lines[0][0]['backend']}\n")
        print(f"| model | rows | {peer} | exact24 | peer / ours | exact16 | peer / ours | exact24 by kernel |")
        print("|---|---|---|---|---|---|---|---|")
        for full, half, other in lines:
            assert full["rows"] == half["rows"] == other["rows"]
            cells = [other["model"], other["rows"], show(other["least_ns"])]
            for line in (full, half):
                ratio = other["least_ns"] / line["least_ns"]
                cells += [show(line["least_ns"]), f"{ratio:.2f}"]
            kernels = sorted(full["kernels_ns"].items(), key=lambda pair: -pair[1])
            cells.append(", ".join(f"{name} {show(nanos)}" for name, nanos in kernels[:3]))
            print("|", " | ".join(map(str, cells)), "|")


main()
