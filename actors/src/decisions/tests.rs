use super::*;
use penstock_rules::ids::{Epoch, Height, Igas, ModelHash};
use penstock_rules::message::{Class, Gang, GangRequest, ShardHello};
use penstock_rules::request::{ENGINE_VERSION, Mode, Request};
use penstock_rules::scheduler::Slot;

const SLOT: u64 = 1_000_000;

fn model() -> ModelHash {
    ModelHash(B256::repeat_byte(1))
}

fn gang(number: u8) -> Event {
    let request = Request {
        model: model(),
        mode: Mode::Vanilla,
        input: vec![number; 40].into(),
    };
    Event::Submit(Gang {
        id: B256::repeat_byte(number),
        sender: alloy_primitives::Address::repeat_byte(number),
        nonce: 0,
        // More than JSON's numbers of other tools hold.
        value: u128::from(u64::MAX) * 5,
        class: Class::Block,
        round: 1,
        arrival: Height(0),
        deadline: None,
        requests: vec![GangRequest {
            key: request.key(),
            model: model(),
            mode: request.mode,
            input: request.input,
            igas: Igas(1_000),
            certain: true,
        }],
    })
}

/// A scheduler that leads one shard, and gangs that wait for it.
fn story() -> Vec<(Micros, Event)> {
    let hello = ShardHello {
        shard: ShardId(alloy_primitives::Address::repeat_byte(9)),
        incarnation: 1,
        backend: "cpu".into(),
        engine_version: ENGINE_VERSION,
        models: vec![model()],
        batch_max: 8,
        queue_max: 8,
        draining: false,
        held: Vec::new(),
    };
    let slot = Slot {
        height: Height(1),
        cutoff: Micros(2 * SLOT),
        next_cutoff: Micros(3 * SLOT),
    };
    let mut all = vec![
        (Micros(SLOT), Event::TookOver { epoch: Epoch(1) }),
        (Micros(SLOT), Event::Head(slot)),
        (Micros(SLOT + 1), Event::Hello(hello)),
    ];
    for number in 1..20 {
        all.push((Micros(SLOT + 1 + u64::from(number)), gang(number)));
    }
    all.push((Micros(SLOT + 100), Event::Tick));
    all
}

fn written() -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::default();
    let mut log = DecisionLog::create(folder.path(), Micros(7), &config).expect("a file");
    let mut scheduler = Scheduler::new(config);
    for (at, event) in story() {
        let mut effects = Vec::new();
        scheduler.apply(at, event.clone(), &mut effects);
        log.add(at, &event, &effects).expect("written");
    }
    log.flush().expect("written");
    assert_eq!(log.path(), folder.path().join("7.jsonl"));
    std::fs::read_to_string(log.path()).expect("text")
}

#[test]
fn a_log_gives_its_decisions_again() {
    let text = written();
    let seen = replay(text.as_bytes()).expect("the same");
    assert_eq!(seen.events, story().len() as u64);
    assert!(seen.assigned > 0 && !seen.cut, "{seen:?}");
}

#[test]
fn another_decision_is_named_with_its_line() {
    let text = written();
    let line = text.lines().position(|line| line.contains("\"assign\""));
    let line = line.expect("an assignment");
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    // The shard that got work never said hello: from there on all is otherwise.
    let hello = lines.iter().position(|line| line.contains("\"Hello\""));
    lines.remove(hello.expect("a hello"));
    let error = replay(lines.join("\n").as_bytes()).expect_err("another story");
    let ReplayError::Differs { line: named, .. } = &error else {
        panic!("{error}");
    };
    assert!(*named <= line as u64, "{error}");
    // And what the effects held beside what is shown is compared too.
    let digest = text.lines().nth(1).expect("a line").len() - 4;
    let cut = text.lines().next().expect("a line").len() + 1 + digest;
    let mut bytes = text.clone().into_bytes();
    bytes[cut] = if bytes[cut] == b'0' { b'1' } else { b'0' };
    let error = replay(&bytes[..]).expect_err("another digest");
    assert!(
        matches!(error, ReplayError::Differs { line: 2, .. }),
        "{error}"
    );
}

#[test]
fn a_last_line_that_was_cut_is_left_out_and_any_other_is_an_error() {
    let text = written();
    let cut = replay(&text.as_bytes()[..text.len() - 5]).expect("all but the last");
    assert!(cut.cut);
    assert_eq!(cut.events, story().len() as u64 - 1);
    let broken = text.replacen("\"event\"", "\"evnt\"", 1);
    let error = replay(broken.as_bytes()).expect_err("malformed");
    assert!(
        matches!(error, ReplayError::Malformed { line: 2, .. }),
        "{error}"
    );
    for (bad, named) in [
        ("", "empty"),
        ("{}\n", "format"),
        ("junk", "no decision log"),
    ] {
        let error = replay(bad.as_bytes()).expect_err("no log").to_string();
        assert!(error.contains(named), "{error}");
    }
    let other = text.replacen("\"format\":1", "\"format\":9", 1);
    let error = replay(other.as_bytes()).expect_err("another format");
    assert!(matches!(error, ReplayError::Format(9)), "{error}");
}
