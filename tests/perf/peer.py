"""Times ONNX Runtime on a model: one JSON line per batch size.

Usage: peer.py PROVIDER SECONDS ROWS[,ROWS...] MODEL.onnx...
One thread on the CPU provider; the other providers do as they do.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

WARM_RUNS = 3


def main() -> None:
    provider, seconds, rows, *files = sys.argv[1:]
    for file in files:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(file, options, providers=[provider])
        if session.get_providers()[0] != provider:
            sys.exit(f"{provider} is not available: {session.get_providers()}")
        for count in map(int, rows.split(",")):
            random = np.random.default_rng(0)
            inputs = {}
            fixed = True
            for port in session.get_inputs():
                fixed &= isinstance(port.shape[0], int)
                shape = [
                    d if isinstance(d, int) else count if axis == 0 else 1
                    for axis, d in enumerate(port.shape)
                ]
                inputs[port.name] = random.uniform(-1, 1, shape).astype(np.float32)
            if fixed and count > 1:
                continue
            for _ in range(WARM_RUNS):
                session.run(None, inputs)
            times = []
            spent = time.process_time_ns()
            end = time.perf_counter() + float(seconds)
            while not times or time.perf_counter() < end:
                start = time.perf_counter_ns()
                session.run(None, inputs)
                times.append(time.perf_counter_ns() - start)
            spent = (time.process_time_ns() - spent) // len(times)
            times.sort()
            line = {
                "model": Path(file).parent.name,
                "rows": count,
                "least_ns": times[0],
                "median_ns": times[len(times) // 2],
                "cpu_ns": spent,
            }
            print(json.dumps(line), flush=True)


main()
