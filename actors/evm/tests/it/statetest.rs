//! State tests of our own making, in the format of ethereum/tests: their expectations are worked out by
//! `tests/fixtures/statetests/make.py`, from the gas tables and a trie of its own.

use penstock_evm::statetest::{Case, Verdict, run_file};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn files() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/statetests");
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| {
            let json = std::fs::read(&path).expect("readable");
            (path.display().to_string(), json)
        })
        .collect()
}

#[test]
fn every_case_comes_to_what_its_file_says_with_our_precompiles_and_without() {
    let (mut cases, mut forks) = (0, BTreeSet::new());
    for (file, json) in files() {
        for case in run_file(&json).expect("a file of state tests") {
            assert_eq!(case.verdict, Verdict::Passed, "{file} {case:?}");
            forks.insert(case.fork);
            cases += 1;
        }
    }
    assert_eq!((cases, forks.len()), (6 * 14 + 6, 14), "{forks:?}");
}

/// A runner that lets everything pass would be of no use.
#[test]
fn a_wrong_expectation_fails_the_case_that_has_it() {
    let (_, json) = files()
        .into_iter()
        .find(|(file, _)| file.ends_with("store.json"))
        .expect("it is there");
    let text = String::from_utf8(json).expect("text");
    let check = |wrong: String, expect: usize| {
        let cases = run_file(wrong.as_bytes()).expect("a file of state tests");
        let failed = |case: &&Case| matches!(case.verdict, Verdict::Failed(_));
        assert_eq!(cases.iter().filter(failed).count(), expect);
    };
    let zero = format!("\"hash\": \"0x{}\"", "00".repeat(32));
    let first = text.find("\"hash\": \"").expect("a hash");
    let hash = &text[first..first + zero.len()];
    // Forks in which the case comes to the same have the same root.
    check(text.replace(hash, &zero), text.matches(hash).count());
    let logs = text.find("\"logs\": \"0x").expect("a hash of logs") + "\"logs\": \"0x".len();
    let (before, after) = text.split_at(logs);
    check(format!("{before}{}{}", "00".repeat(32), &after[64..]), 1);
    assert!(run_file(b"{\"a\": 5}").is_err());
}
