"""web3.py against a running devnet: every flow that an application has. Run with web3.py 7 and with 8.

    python flows.py http://127.0.0.1:8545 9
"""

import asyncio
import json
import sys
import traceback
from pathlib import Path

import web3
from eth_account import Account
from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.exceptions import ContractCustomError, ContractLogicError, ContractPanicError

ROOT = Path(__file__).resolve().parents[2]
MNEMONIC = "test test test test test test test test test test test junk"
# A minute is no question of speed on the slowest CI machine.
WAIT_S = 60

url, index = sys.argv[1], int(sys.argv[2])
VERSION = web3.__version__
passed = failed = 0


def check(name, run):
    """Runs one check and counts it; the rest goes on."""
    global passed, failed
    try:
        value = run()
    except Exception:
        failed += 1
        print(f"FAILED  web3.py {VERSION}: {name}:\n{traceback.format_exc()}")
        return None
    passed += 1
    print(f"ok      web3.py {VERSION}: {name}")
    return value


def artifact(name):
    return json.loads((ROOT / "devnet" / "contracts" / "artifacts" / f"{name}.json").read_text())


Account.enable_unaudited_hdwallet_features()
account = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
w3 = Web3(Web3.HTTPProvider(url))
TRACEE = artifact("Tracee")


def send(call, value=0):
    """Builds, signs and sends a call, and waits for its receipt."""
    nonce = w3.eth.get_transaction_count(account.address, "pending")
    tx = call.build_transaction({"from": account.address, "nonce": nonce, "value": value})
    signed = account.sign_transaction(tx)
    return w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(signed.raw_transaction), WAIT_S, 0.05)


def connect():
    assert w3.is_connected()
    assert w3.eth.chain_id == 31337
    assert w3.eth.syncing is False
    assert w3.eth.get_balance(account.address) > w3.to_wei(1000, "ether")
    assert w3.eth.get_block("pending")["number"] is not None
    assert len(w3.eth.get_block("latest")["extraData"]) == 32


def deploy():
    receipt = send(w3.eth.contract(abi=TRACEE["abi"], bytecode=TRACEE["bytecode"]).constructor())
    assert receipt["status"] == 1
    return w3.eth.contract(address=receipt["contractAddress"], abi=TRACEE["abi"])


check("connect and balances", connect)
made = check("deploy", deploy)


def send_and_call():
    receipt = send(made.functions.bump(), value=3)
    assert receipt["status"] == 1 and made.functions.count().call() == 1
    (event,) = made.events.Counted().process_receipt(receipt)
    assert event["args"]["count"] == 1 and event["args"]["by"] == account.address


def errors():
    def refused(kind, run):
        try:
            run()
        except kind as error:
            return error
        raise AssertionError(f"no {kind.__name__}")

    error = refused(ContractCustomError, made.functions.demand(99).call)
    assert error.data.startswith("0xaba4b659")
    assert "refused" in str(refused(ContractLogicError, made.functions.refuse().call))
    assert "refused" in str(refused(ContractLogicError, lambda: made.functions.refuse().estimate_gas({"from": account.address})))
    refused(ContractPanicError, made.functions.panic(0).call)


def logs_and_filters():
    events = made.events.Counted().create_filter(from_block="latest")
    blocks = w3.eth.filter("latest")
    receipt = send(made.functions.bump())
    (entry,) = [e for e in events.get_new_entries() if e["transactionHash"] == receipt["transactionHash"]]
    assert entry["args"]["count"] == 2
    assert receipt["blockHash"] in blocks.get_new_entries()
    found = made.events.Counted().get_logs(from_block=0)
    assert [event["args"]["count"] for event in found] == [1, 2]
    assert w3.eth.uninstall_filter(events.filter_id)


def fees_proof_access_list_trace():
    history = w3.eth.fee_history(4, "latest", [25, 75])
    assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1
    assert w3.eth.max_priority_fee > 0 and w3.eth.gas_price > 0
    proof = w3.eth.get_proof(made.address, [0], "latest")
    assert proof["storageProof"][0]["value"] == (2).to_bytes(1, "big") or int.from_bytes(proof["storageProof"][0]["value"], "big") == 2
    data = made.encode_abi("bump", args=[])
    listed = w3.eth.create_access_list({"from": account.address, "to": made.address, "data": data})
    assert any(item["address"] == made.address for item in listed["accessList"])
    receipt = send(made.functions.survive())
    trace = w3.tracing.trace_transaction(receipt["transactionHash"])
    assert len(trace) == 2
    steps = w3.provider.make_request("debug_traceTransaction", [w3.to_hex(receipt["transactionHash"]), {"tracer": "callTracer"}])
    assert int(steps["result"]["gasUsed"], 16) == receipt["gasUsed"]
    assert len(w3.eth.get_block_receipts(receipt["blockNumber"])) >= 1
    assert w3.geth.txpool.status()["pending"] is not None


async def subscribe():
    async with AsyncWeb3(WebSocketProvider(url.replace("http", "ws", 1))) as socket:
        heads = await socket.eth.subscribe("newHeads")
        logs = await socket.eth.subscribe("logs", {"address": made.address})
        await socket.eth.subscribe("newPendingTransactions", False)
        sending = asyncio.get_running_loop().run_in_executor(None, lambda: send(made.functions.bump()))
        seen = set()
        async for message in socket.socket.process_subscriptions():
            seen.add(message["subscription"])
            if {heads, logs} <= seen:
                break
        await sending


def subscriptions():
    asyncio.run(asyncio.wait_for(subscribe(), WAIT_S))


if made:
    check("send, wait, call, events", send_and_call)
    check("custom errors, reasons, panics, estimates of reverting calls", errors)
    check("logs and filters", logs_and_filters)
    check("fee history, proof, access list, traces, receipts of a block", fees_proof_access_list_trace)
    check("subscriptions over WebSocket", subscriptions)

print(f"{passed} passed, {failed} failed")
sys.exit(0 if failed == 0 else 1)
