//! What real clients depend on beyond the specification, and which test holds each. A name that ends in `.io` is a file of
//! recorded requests; the others are names of tests. [`every_quirk_has_its_test`] reads this table.
//!
//! | quirk | where | test |
//! |---|---|---|
//! | `data` and `input` together, keys that nobody knows | `devnet/rpc/tests/fixtures` | `calls.io` |
//! | the block may be left out; `newPendingTransactions` may carry a flag | `devnet/rpc/tests/fixtures` | `accounts.io` |
//! | the same over WebSocket, with `false` | `tests/clients/fixtures` | `ws-subscriptions.io` |
//! | short storage keys, not more than 32 bytes | `tests/clients/fixtures` | `state.io` |
//! | block tags and EIP-1898 objects; the pending block has a number | `devnet/rpc/tests/fixtures` | `blocks.io` |
//! | reverts: code 3, geth's words, bare hex data | `devnet/rpc/tests` | `recorded_requests_get_their_recorded_answers` |
//! | refusals in geth's words, by which ethers and web3.py tell them apart | `devnet/rpc/tests` | `refusals_of_the_pool_keep_their_words` |
//! | codes: parse, request, method, params | `devnet/rpc/tests` | `what_is_no_request_gets_the_code_that_json_rpc_has_for_it` |
//! | missing objects are null, state of a block to come is an error | `devnet/rpc/tests/fixtures` | `blocks.io` |
//! | receipts have no key that the schema lacks | `devnet/rpc/tests` | `receipts_have_the_keys_of_the_specification_and_no_others` |
//! | blocks have every field; `extraData` has 32 bytes at most | `devnet/rpc/tests` | `blocks_have_every_field_that_clients_read` |
//! | `gasPrice` and `yParity` on every type, `blockTimestamp` | `devnet/rpc/tests` | `transactions_have_gas_price_and_parity_whatever_their_type` |
//! | fee history: n + 1 fees, genesis, counts in any form | `devnet/rpc/tests/fixtures` | `fees.io` |
//! | blocks of one second share its timestamp, or an interval is set | `devnet/rpc/tests` | `settings_have_all_their_names` |
//! | predeploys: CREATE2 deployer, Multicall3, system contracts | `tests/clients` | `ethers: predeploys are there` |
//! | batches in order, each entry with its own error | `devnet/rpc/tests` | `a_batch_is_answered_in_order_with_an_error_for_each_bad_entry` |
//! | notifications get no answer | `devnet/rpc/tests` | `notifications_get_no_answer` |
//! | CORS and preflight | `devnet/rpc/tests` | `pages_of_any_origin_may_ask` |
//! | bodies of megabytes, batches of 1,000, and not more | `devnet/rpc/tests` | `requests_and_batches_beyond_the_limits_are_refused` |
//! | WebSocket on the same port | `devnet/rpc/tests` | `heads_logs_and_pending_transactions_reach_their_subscribers` |
//! | chain id 31337, decimal in `net_version` | `tests/clients/fixtures` | `metamask.io` |

#![allow(missing_docs)]

mod common;

use common::Node;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Methods that clients need, in the order in which they need them: all wallets and libraries, tools, explorers.
const WANTED: &str = "
web3_clientVersion net_version net_listening net_peerCount eth_chainId eth_syncing eth_blockNumber eth_accounts
eth_coinbase eth_gasPrice eth_maxPriorityFeePerGas eth_feeHistory eth_blobBaseFee eth_getBalance eth_getCode
eth_getStorageAt eth_getTransactionCount eth_call eth_estimateGas eth_sendRawTransaction eth_sendTransaction
eth_getTransactionByHash eth_getTransactionReceipt eth_getBlockByNumber eth_getBlockByHash eth_getBlockReceipts
eth_getBlockTransactionCountByNumber eth_getBlockTransactionCountByHash eth_getTransactionByBlockNumberAndIndex
eth_getTransactionByBlockHashAndIndex eth_getLogs eth_newFilter eth_newBlockFilter eth_newPendingTransactionFilter
eth_getFilterChanges eth_getFilterLogs eth_uninstallFilter eth_subscribe eth_unsubscribe eth_getAccountInfo
eth_fillTransaction evm_mine anvil_mine evm_snapshot evm_revert evm_increaseTime evm_setNextBlockTimestamp
evm_setAutomine evm_setIntervalMining anvil_setBalance anvil_setCode anvil_setNonce anvil_setStorageAt
hardhat_setBalance hardhat_setCode hardhat_setNonce hardhat_setStorageAt anvil_impersonateAccount
anvil_stopImpersonatingAccount hardhat_impersonateAccount hardhat_stopImpersonatingAccount anvil_nodeInfo

eth_getProof eth_createAccessList eth_simulateV1 eth_sendRawTransactionSync eth_getStorageValues eth_config eth_baseFee
eth_capabilities eth_getHeaderByNumber eth_getHeaderByHash eth_sign eth_signTypedData_v4 personal_sign
eth_signTransaction web3_sha3 txpool_status txpool_content txpool_contentFrom txpool_inspect debug_traceTransaction
debug_traceCall debug_traceBlock debug_traceBlockByNumber debug_traceBlockByHash debug_getRawHeader debug_getRawBlock
debug_getRawTransaction debug_getRawReceipts rpc_modules rpc.discover anvil_dumpState anvil_loadState
anvil_dropTransaction anvil_removePoolTransactions anvil_setNextBlockBaseFeePerGas anvil_setBlockTimestampInterval
anvil_reset anvil_setCoinbase anvil_setNextBlockPrevRandao

ots_getApiLevel ots_hasCode ots_getBlockDetails ots_getBlockDetailsByHash ots_getBlockTransactions
ots_searchTransactionsBefore ots_searchTransactionsAfter ots_getTransactionBySenderAndNonce ots_getTransactionError
ots_traceTransaction ots_getInternalOperations ots_getContractCreator ots_getHeaderByNumber erigon_getHeaderByNumber
trace_replayTransaction trace_block trace_transaction trace_filter trace_call eth_callMany eth_getRawTransactionByHash
eth_getRawTransactionByBlockNumberAndIndex eth_getRawTransactionByBlockHashAndIndex eth_getUncleCountByBlockNumber
eth_getUncleCountByBlockHash eth_getUncleByBlockNumberAndIndex eth_getUncleByBlockHashAndIndex anvil_reorg
anvil_rollback anvil_dealERC20 anvil_dealErc20 anvil_setERC20Allowance debug_storageRangeAt admin_nodeInfo admin_peers
";

/// Methods that other nodes have and this one does not, and why. `devnet/docs/rpc.md` says the same.
const MISSING: [(&str, &str); 2] = [
    (
        "testing_buildBlockV1",
        "a block here has a witness, which no engine API carries",
    ),
    (
        "debug_executionWitness",
        "an executor that has the trie's nodes alone can't run inference; blocks re-execute from pipe_getWitness",
    ),
];

#[tokio::test]
async fn every_method_that_clients_need_is_served_or_named_as_missing() {
    let node = Node::start().await;
    let served: BTreeSet<_> = node.server.methods().into_iter().collect();
    let lacking: Vec<_> = WANTED
        .split_whitespace()
        .filter(|name| !served.contains(name))
        .collect();
    assert!(lacking.is_empty(), "{lacking:?}");
    let page = std::fs::read_to_string(repository().join("devnet/docs/rpc.md")).expect("readable");
    for (name, _) in MISSING {
        assert!(!served.contains(name), "{name} is served");
        assert!(page.contains(name), "{name} is not in the page");
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Whether a folder has the file, or a file that names the test.
fn holds(folder: &Path, test: &str) -> bool {
    if test.ends_with(".io") {
        return folder.join(test).is_file();
    }
    let files = std::fs::read_dir(folder).expect("the folder is there");
    let texts =
        files.filter_map(|file| std::fs::read_to_string(file.expect("readable").path()).ok());
    let test = [format!("fn {test}("), format!("check(\"{test}\"")];
    texts
        .into_iter()
        .any(|text| test.iter().any(|name| text.contains(name)))
}

#[test]
fn every_quirk_has_its_test() {
    let mut count = 0;
    for line in include_str!("quirks.rs").lines() {
        let cells: Vec<_> = line.trim_start_matches("//! ").split(" | ").collect();
        let (true, [_, folder, test]) = (line.starts_with("//! | "), &cells[..]) else {
            continue;
        };
        let plain = |cell: &str| cell.trim_end_matches(" |").trim_matches('`').to_owned();
        let (folder, test) = (plain(folder), plain(test));
        if folder == "where" {
            continue;
        }
        assert!(
            holds(&repository().join(&folder), &test),
            "{folder}: {test}"
        );
        count += 1;
    }
    assert!(count >= 15, "{count} quirks are in the table");
}
