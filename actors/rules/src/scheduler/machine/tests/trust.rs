//! Answers that a whole quorum signed and that prove false later.

use super::*;

fn recomputed(of: &Settled, attestation: &Attestation) -> Box<Evidence> {
    Box::new(Evidence {
        shard: attestation.shard,
        answer: Answer {
            key: of.key,
            outcome: of.outcome.clone(),
            attestation: attestation.clone(),
        },
        outcome_hash: B256::repeat_byte(7),
        against: Vec::new(),
        asked: None,
    })
}

#[test]
fn who_signed_what_proved_false_gets_no_more_work_and_the_answer_is_not_given_again() {
    let mut world = World::new(4, 1, Faults::default());
    let asked = request(0, Mode::Zk, 1);
    let key = asked.key;
    world.tell(Event::Submit(gang(1, vec![asked.clone()])));
    world.pass(2 * SLOT);
    let settled = world.settled.remove(&key).expect("it is settled");
    assert_eq!(settled.attestations.len(), 2);
    let liars: Vec<_> = settled.attestations.iter().map(|a| a.shard).collect();
    for attestation in &settled.attestations {
        world.tell(Event::Recomputed(recomputed(&settled, attestation)));
        // Once more changes nothing: every node says so.
        world.tell(Event::Recomputed(recomputed(&settled, attestation)));
    }
    let shown: Vec<_> = world.evidence.iter().map(|e| e.shard).collect();
    assert_eq!(shown, liars);
    world.tell(Event::Submit(gang(2, vec![asked])));
    world.pass(2 * SLOT);
    let again = world.settled.get(&key).expect("it is computed anew");
    assert!(again.attestations.iter().all(|a| !liars.contains(&a.shard)));
}
