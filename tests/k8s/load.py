"""Load on a testnet, and a ledger of what it accepted.

Each sender has an account of its own and one transaction under way; every third transaction asks a model. A request goes
to any of a Service's endpoints, as kube-proxy would send it, and is repeated where the answer says that it may be.
"""

import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from eth_account import Account
from web3 import Web3

ROOT = Path(__file__).resolve().parents[2]
MNEMONIC = "test test test test test test test test test test test junk"
CHAIN_ID = 31_337
INFERENCE = "0x00000000000000000000000000000000000000F4"
# The code after which the same request may be sent again: there is no room, or the mempool is just being taken over.
RETRYABLE = -32005
# Texts of refusals that say that the transaction is known already: an answer got lost, not the transaction.
KNOWN = ("already known", "nonce too low")
REQUEST_S_MAX = 30.0
INCLUDED_S_MAX = 120.0

Account.enable_unaudited_hdwallet_features()


class Failed(Exception):
    """A request failed in a way that a client can't mend by asking again."""


class Client:
    """JSON-RPC through a Service."""

    def __init__(self, endpoints, port=8545):
        """`endpoints` gives the addresses behind the Service now."""
        self._endpoints, self._port, self._turn = endpoints, port, itertools.count()
        # What went wrong and was mended by asking again: text to number.
        self.retried = {}
        self.failed = []
        self._lock = threading.Lock()

    def _note(self, why):
        with self._lock:
            self.retried[why] = self.retried.get(why, 0) + 1

    def call(self, method, *params):
        """The result. Raises Failed."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        end = time.monotonic() + REQUEST_S_MAX
        while True:
            addresses = self._endpoints()
            if addresses:
                address = addresses[next(self._turn) % len(addresses)]
                answer = self._once(address, body, method)
                if "result" in answer:
                    return answer["result"]
                error = answer.get("error")
                if error and error["code"] != RETRYABLE:
                    raise Failed(f"{method}: {error}")
                if error:
                    self._note(f"{method}: {error['code']} {error['message']}")
            else:
                self._note("the Service has no endpoint")
            if time.monotonic() > end:
                raise Failed(f"{method}: still not served after {REQUEST_S_MAX} s")
            time.sleep(0.1)

    def _once(self, address, body, method):
        request = urllib.request.Request(
            f"http://{address}:{self._port}", body, {"content-type": "application/json", "connection": "close"}
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S_MAX) as reply:
                return json.load(reply)
        except (OSError, ValueError) as error:
            # No code at all: a roll-out must not show this to anybody.
            with self._lock:
                self.failed.append(f"{method} at {address}: {error!r}")
            return {}


def inference_call():
    """Call data of `runModelInference` on real rows, by index."""
    abi = json.loads((ROOT / "tests/fixtures/opengradient/InferencePrecompile.abi").read_text())
    contract = Web3().eth.contract(address=Web3.to_checksum_address(INFERENCE), abi=abi)
    data = json.loads((ROOT / "devnet/models/risk.rows.json").read_text())

    def encode(index):
        row = data["rows"][index % len(data["rows"])]["input"]
        numbers = [number(text) for text in row]
        request = (0, "risk", ([(data["input"], numbers, [1, len(row)])], []))
        return contract.encode_abi("runModelInference", args=[request])

    return encode


def number(text):
    """The interface's (value, decimals) of a decimal text."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction), len(fraction)


class Sender(threading.Thread):
    """One account that sends a transaction, waits for its receipt, and goes on."""

    def __init__(self, client, index, stop):
        super().__init__(name=f"sender {index}", daemon=True)
        self.client, self.stop = client, stop
        path = f"m/44'/60'/0'/0/{index}"
        self.account = Account.from_mnemonic(MNEMONIC, account_path=path)
        self.encode = inference_call()
        self.index = index
        # Hash to the block that has it.
        self.accepted, self.error = {}, None

    def run(self):
        try:
            nonce = int(self.client.call("eth_getTransactionCount", self.account.address, "latest"), 16)
            while not self.stop.is_set():
                self._one(nonce)
                nonce += 1
        except Exception as error:  # noqa: BLE001: told by the test that waits for this thread
            self.error = error

    def _one(self, nonce):
        transaction = {
            "chainId": CHAIN_ID,
            "nonce": nonce,
            "to": Web3.to_checksum_address("0x" + "11" * 20),
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
        }
        if nonce % 3 == 2:
            transaction |= {"to": INFERENCE, "value": 0, "gas": 5_000_000, "data": self.encode(self.index * 40 + nonce)}
        signed = self.account.sign_transaction(transaction)
        tx_hash = Web3.to_hex(signed.hash)
        try:
            given = self.client.call("eth_sendRawTransaction", Web3.to_hex(signed.raw_transaction))
            assert given == tx_hash, f"{given} is not {tx_hash}"
        except Failed as error:
            # Sent twice, since an answer got lost.
            if not any(text in str(error) for text in KNOWN):
                raise
        # From here on it must not get lost.
        self.accepted[tx_hash] = None
        end = time.monotonic() + INCLUDED_S_MAX
        while True:
            receipt = self.client.call("eth_getTransactionReceipt", tx_hash)
            if receipt:
                assert receipt["status"] == "0x1", f"{tx_hash} failed: {receipt}"
                self.accepted[tx_hash] = int(receipt["blockNumber"], 16)
                return
            if time.monotonic() > end:
                raise Failed(f"{tx_hash} was accepted and is in no block after {INCLUDED_S_MAX} s")
            time.sleep(0.2)


class Load:
    """Several senders at once."""

    def __init__(self, endpoints, senders=4):
        self.client, self._stop = Client(endpoints), threading.Event()
        self.senders = [Sender(self.client, index, self._stop) for index in range(senders)]

    def __enter__(self):
        for sender in self.senders:
            sender.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for sender in self.senders:
            sender.join(INCLUDED_S_MAX + 2 * REQUEST_S_MAX)

    @property
    def included(self):
        """How many transactions have a receipt."""
        return sum(block is not None for s in self.senders for block in s.accepted.values())

    def wait_for(self, count, seconds):
        """Waits until so many more have a receipt."""
        goal, end = self.included + count, time.monotonic() + seconds
        while self.included < goal:
            for sender in self.senders:
                if sender.error:
                    raise sender.error
            assert time.monotonic() < end, f"{goal - self.included} of {count} transactions are missing after {seconds} s"
            time.sleep(0.1)

    def verify(self):
        """After the end: no sender failed, each accepted transaction is in one block of the chain that all have."""
        for sender in self.senders:
            if sender.error:
                raise sender.error
        assert not self.client.failed, "requests without an answer:\n" + "\n".join(self.client.failed)
        for sender in self.senders:
            for tx_hash, block in sender.accepted.items():
                assert block is not None, f"{tx_hash} was accepted and has no receipt"
                found = self.client.call("eth_getBlockByNumber", hex(block), False)["transactions"]
                assert found.count(tx_hash) == 1, f"{tx_hash} stands {found.count(tx_hash)} times in block {block}"
