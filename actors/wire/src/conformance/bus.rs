//! Cases for the bus.

use super::{Backend, PATIENCE, soon, until};
use crate::codec::MESSAGE_BYTES_MAX;
use crate::trace::{TRACES_MAX, TraceParent};
use crate::{Bus, BusError, Subscription};
use alloy_primitives::B256;
use bytes::Bytes;
use std::time::Duration;

fn text(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

async fn next(subscription: &mut Subscription) -> (String, Bytes) {
    let delivery = soon("a message", subscription.next()).await;
    let delivery = delivery.expect("the bus is open");
    (delivery.subject, delivery.payload)
}

pub(super) async fn a_message_carries_the_trace_context_that_it_was_sent_with(
    backend: &mut dyn Backend,
) {
    let (a, b) = (backend.connect().await.bus, backend.connect().await.bus);
    let mut inbox = b.subscribe("traced", 16).await.expect("good");
    let many: Vec<_> = (0..TRACES_MAX + 3)
        .map(|n| TraceParent::of(B256::repeat_byte(1 + n as u8), "test"))
        .collect();
    for traces in [&many[..1], &many[..2], &many[..], &[]] {
        let sent = a.publish_traced("traced", text("news"), traces).await;
        sent.expect("good");
        let delivery = soon("a message", inbox.next()).await.expect("open");
        assert_eq!(delivery.payload, text("news"));
        assert_eq!(delivery.traces, traces[..traces.len().min(TRACES_MAX)]);
    }
    // A message that leaves no room for them comes all the same: servers end the connection of who sends too much.
    for spare in [0, 11, 12, 100, 1_000] {
        let large = Bytes::from(vec![7; MESSAGE_BYTES_MAX - spare]);
        let sent = a.publish_traced("traced", large.clone(), &many).await;
        sent.expect("fits");
        let delivery = soon("a message", inbox.next()).await.expect("open");
        assert_eq!(delivery.payload, large);
        assert!(many.starts_with(&delivery.traces));
    }
}

pub(super) async fn a_message_reaches_every_subscription_that_matches(backend: &mut dyn Backend) {
    let (a, b) = (backend.connect().await.bus, backend.connect().await.bus);
    let patterns = ["t.a.x", "t.*.x", "t.>", "t.a.x"];
    let mut subscriptions = Vec::new();
    for pattern in patterns {
        subscriptions.push(b.subscribe(pattern, 16).await.expect("good"));
    }
    let subjects = ["t.a.x", "t.b.x", "t.a", "other", "t.a.x.y"];
    for subject in subjects {
        a.publish(subject, text(subject)).await.expect("good");
    }
    // What was not for a subscription would come before this one.
    for subject in ["t.a.x", "t.z.z"] {
        a.publish(subject, text("end")).await.expect("good");
    }
    let expect: [&[&str]; 4] = [
        &["t.a.x"],
        &["t.a.x", "t.b.x"],
        &["t.a.x", "t.b.x", "t.a", "t.a.x.y"],
        &["t.a.x"],
    ];
    for (subscription, expect) in subscriptions.iter_mut().zip(expect) {
        for subject in expect {
            let got = next(subscription).await;
            assert_eq!(got, ((*subject).to_owned(), text(*subject)));
        }
        assert_eq!(next(subscription).await.1, text("end"));
    }
}

/// "Ready" must be a round trip: over NATS a flush after the subscription lost 46 of 400 messages of another
/// connection.
pub(super) async fn a_subscription_is_live_when_subscribe_returns(backend: &mut dyn Backend) {
    let (a, b) = (backend.connect().await.bus, backend.connect().await.bus);
    // In a cluster, interest still has to reach the server of the other connection, so there both use one.
    let publisher: &dyn Bus = match a.subscribe("live.same", 1).await {
        Ok(mut same) => {
            b.publish("live.same", text("?")).await.expect("good");
            let first = tokio::time::timeout(Duration::from_millis(200), same.next()).await;
            if first.is_ok() { &*b } else { &*a }
        }
        Err(error) => panic!("{error}"),
    };
    for i in 0..40 {
        let subject = format!("live.{i}");
        let mut subscription = a.subscribe(&subject, 1).await.expect("good");
        publisher.publish(&subject, text("x")).await.expect("good");
        assert_eq!(next(&mut subscription).await.0, subject);
    }
}

pub(super) async fn a_queue_group_gets_each_message_once(backend: &mut dyn Backend) {
    const MESSAGES: usize = 90;
    let bus = backend.connect().await.bus;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(bus.serve("work", "group", MESSAGES).await.expect("good"));
    }
    let mut other = bus.serve("work", "other", MESSAGES).await.expect("good");
    let mut lone = bus.subscribe("work", MESSAGES).await.expect("good");
    for i in 0..MESSAGES {
        bus.publish("work", text(i.to_string()))
            .await
            .expect("good");
    }
    for i in 0..MESSAGES {
        assert_eq!(next(&mut lone).await.1, text(i.to_string()));
        assert_eq!(next(&mut other).await.1, text(i.to_string()));
    }
    let mut got = Vec::new();
    until("every message at some member", async || {
        for member in &mut members {
            while let Some(delivery) = member.try_next() {
                got.push(delivery.payload);
            }
        }
        got.len() >= MESSAGES
    })
    .await;
    let mut expect: Vec<Bytes> = (0..MESSAGES).map(|i| text(i.to_string())).collect();
    got.sort();
    expect.sort();
    assert_eq!(got, expect);
}

pub(super) async fn a_request_is_answered_once_or_fails_by_its_reason(backend: &mut dyn Backend) {
    let (a, b) = (backend.connect().await.bus, backend.connect().await.bus);
    let short = Duration::from_millis(100);
    assert_eq!(
        b.request("ask", text("?"), PATIENCE).await,
        Err(BusError::NoResponder("ask".into()))
    );
    let mut server = a.serve("ask", "group", 4).await.expect("good");
    // In a cluster the interest takes its time to the other server.
    let answered = async {
        loop {
            match b.request("ask", text("?"), PATIENCE).await {
                Err(BusError::NoResponder(_)) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    };
    let serve = async {
        let delivery = server.next().await.expect("open");
        a.reply(&delivery, text("first")).await.expect("good");
        a.reply(&delivery, text("second")).await.expect("no error");
        delivery
    };
    let (answer, delivery) = soon("an answer", futures::future::join(answered, serve)).await;
    assert_eq!(answer, Ok(text("first")));
    assert_eq!(delivery.payload, text("?"));

    let silent = b.request("ask", text("!"), short).await;
    assert!(matches!(silent, Err(BusError::Timeout { subject, .. }) if subject == "ask"));
    let late = soon("the request", server.next()).await.expect("open");
    a.reply(&late, text("late")).await.expect("no error");

    b.publish("ask", text("no request")).await.expect("good");
    let plain = soon("the message", server.next()).await.expect("open");
    assert_eq!(plain.payload, text("no request"));
    assert_eq!(
        a.reply(&plain, text("what?")).await,
        Err(BusError::NotARequest("ask".into()))
    );
}

pub(super) async fn a_full_server_says_so_instead_of_silence(backend: &mut dyn Backend) {
    let bus = backend.connect().await.bus;
    let mut server = bus.serve("ask", "group", 1).await.expect("good");
    let first = bus.request("ask", text("1"), PATIENCE);
    let second = bus.request("ask", text("2"), PATIENCE);
    let serve = async {
        let second = second.await;
        let delivery = server.next().await.expect("open");
        assert_eq!(delivery.payload, text("1"));
        bus.reply(&delivery, text("done")).await.expect("good");
        second
    };
    let (first, second) = soon("both", futures::future::join(first, serve)).await;
    assert_eq!(first, Ok(text("done")));
    assert_eq!(second, Err(BusError::Full("ask".into())));
    assert_eq!(server.dropped(), 0);
}

pub(super) async fn a_slow_subscriber_loses_the_newest_and_the_loss_is_counted(
    backend: &mut dyn Backend,
) {
    let bus = backend.connect().await.bus;
    let mut slow = bus.subscribe("flood.*", 4).await.expect("good");
    let mut quick = bus.subscribe("flood.x", 100).await.expect("good");
    for i in 0..10 {
        let sent = bus.publish("flood.x", text(i.to_string()));
        soon("publishing never waits", sent).await.expect("good");
    }
    until("six are counted", async || slow.dropped() == 6).await;
    for i in 0..4 {
        assert_eq!(next(&mut slow).await.1, text(i.to_string()));
    }
    assert!(slow.try_next().is_none());
    bus.publish("flood.x", text("after")).await.expect("good");
    assert_eq!(next(&mut slow).await.1, text("after"));
    for i in 0..10 {
        assert_eq!(next(&mut quick).await.1, text(i.to_string()));
    }
    assert_eq!(quick.dropped(), 0);
}

pub(super) async fn a_dropped_subscription_is_gone(backend: &mut dyn Backend) {
    let bus = backend.connect().await.bus;
    let server = bus.serve("ask", "group", 4).await.expect("good");
    let wild = bus.subscribe("ask", 4).await.expect("good");
    drop((server, wild));
    until("nobody is there", async || {
        let asked = bus
            .request("ask", text("?"), Duration::from_millis(50))
            .await;
        matches!(asked, Err(BusError::NoResponder(_)))
    })
    .await;
}

pub(super) async fn malformed_subjects_and_oversized_messages_are_refused(
    backend: &mut dyn Backend,
) {
    let bus = backend.connect().await.bus;
    for bad in ["", "a..b", "a b", "a.*", ">"] {
        let error = Err(BusError::Subject(bad.into()));
        assert_eq!(bus.publish(bad, text("x")).await, error);
        let asked = bus.request(bad, text("x"), PATIENCE).await;
        assert_eq!(asked.map(drop), error);
    }
    for bad in ["", "a..b", "a.>.b"] {
        let error = Some(BusError::Subject(bad.into()));
        assert_eq!(bus.subscribe(bad, 1).await.err(), error);
        assert_eq!(bus.serve("a", bad, 1).await.err(), error);
    }
    let mut subscription = bus.subscribe("large", 2).await.expect("good");
    let largest = Bytes::from(vec![7; MESSAGE_BYTES_MAX - 1_024]);
    bus.publish("large", largest.clone()).await.expect("fits");
    assert_eq!(next(&mut subscription).await.1, largest);
    let over = Bytes::from(vec![7; MESSAGE_BYTES_MAX + 1]);
    let refused = bus.publish("large", over).await;
    assert!(matches!(refused, Err(BusError::TooLarge { .. })));
}
