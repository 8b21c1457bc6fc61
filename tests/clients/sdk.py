"""OpenGradient's SDK from PyPI, unmodified, against a running devnet.

    python sdk.py http://127.0.0.1:8545

Its `alpha.infer` must give what ONNX Runtime gives, in one transaction, in the next block.
"""

import json
import os
import sys
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import opengradient as og
from web3 import Web3

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "devnet" / "models"
# Account 4 of the devnet's well-known mnemonic.
KEY = "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"
INFERENCE = "0x00000000000000000000000000000000000000F4"
# Where blocks come by time, one may come while the client still asks and signs.
TIMED = "PENSTOCK_TIMED_BLOCKS" in os.environ
# Tolerance of f32 arithmetic in another order of operations: a few units of its 24 bits.
RELATIVE = 1e-5

passed = failed = 0


def check(name, run):
    """Runs one check and counts it; the rest goes on."""
    global passed, failed
    try:
        run()
    except Exception:
        failed += 1
        print(f"FAILED  {name}:\n{traceback.format_exc()}")
    else:
        passed += 1
        print(f"ok      {name}")


def rows(model):
    return json.loads((MODELS / f"{model}.rows.json").read_text())


def onnx(model, name, batch):
    """ONNX Runtime's first output."""
    session = onnxruntime.InferenceSession(MODELS / f"{model}.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {name: batch})[0]


def main(url):
    alpha = og.Alpha(private_key=KEY, rpc_url=url, api_url=url)
    web3 = Web3(Web3.HTTPProvider(url))
    methods = Counter()
    provider = alpha._blockchain.provider
    plain = provider.make_request

    def recorded(method, params):
        methods[method] += 1
        return plain(method, params)

    provider.make_request = recorded

    def infer(model, mode, batch):
        data = rows(model)
        before = web3.eth.block_number
        result = alpha.infer(model, mode, {data["input"]: batch})
        receipt = web3.eth.get_transaction_receipt(result.transaction_hash)
        assert receipt["status"] == 1
        next_block = receipt["blockNumber"] == before + 1
        assert next_block or TIMED and receipt["blockNumber"] > before, f"{receipt['blockNumber']} does not follow {before}"
        abi = json.loads((ROOT / "tests/fixtures/opengradient/InferencePrecompile.abi").read_text())
        precompile = web3.eth.contract(address=Web3.to_checksum_address(INFERENCE), abi=abi)
        logs = [log for log in receipt["logs"] if log["address"] == precompile.address]
        assert len(logs) == 1, "one inference in one transaction"
        event = precompile.events.ModelInferenceEvent().process_log(logs[0])["args"]
        assert event["response"]["is_simulation_result"] is False
        expect = onnx(model, data["input"], batch.astype(np.float32))
        got = result.model_output[data["output"]]
        assert got.shape == expect.shape, f"{got.shape} is not {expect.shape}"
        np.testing.assert_allclose(got, expect, rtol=RELATIVE)

    def batch(model, first, count):
        return np.array([[float(x) for x in row["input"]] for row in rows(model)["rows"][first : first + count]])

    modes = og.InferenceMode
    check("sdk: risk on one row equals ONNX Runtime", lambda: infer("risk", modes.VANILLA, batch("risk", 0, 1)))
    check("sdk: risk on five rows in one call", lambda: infer("risk", modes.VANILLA, batch("risk", 5, 5)))
    check("sdk: risk with float32 inputs", lambda: infer("risk", modes.VANILLA, batch("risk", 11, 1).astype(np.float32)))
    check("sdk: risk in TEE mode (stand-in: a quorum)", lambda: infer("risk", modes.TEE, batch("risk", 12, 1)))
    check("sdk: risk in ZKML mode (stand-in: re-execution)", lambda: infer("risk", modes.ZKML, batch("risk", 13, 1)))
    check("sdk: forecast on one window", lambda: infer("forecast", modes.VANILLA, batch("forecast", 3, 1)))

    def unknown():
        try:
            alpha.infer("nonesuch", modes.VANILLA, {"x": np.array([[1.0]])})
        except Exception as error:
            # The SDK asks again by eth_call to learn the reason, and web3 shows a custom error by its data.
            selector = Web3.keccak(text="UnknownModel(string)")[:4].hex()
            assert selector in str(error), f"{error} does not carry {selector}"
        else:
            raise AssertionError("an unknown model must fail")

    check("sdk: an unknown model fails with its typed error", unknown)
    print("methods that the SDK called:", ", ".join(f"{m} {n}" for m, n in sorted(methods.items())))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
