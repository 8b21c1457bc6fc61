//! Development methods: orders to the producer over the bus, answered once this process's own follower has the block.

use super::Gateway;
use alloy_consensus::TypedTransaction;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes};
use async_trait::async_trait;
use penstock_evm::dev;
use penstock_rpc::{ChainReader, DevControl, DumpedAccount, RpcError};
use penstock_rules::dev::{
    Change, DevAnswer, DevAsk, DevDone, DevOrder, DevRefusal, MineTime, Settings,
};
use penstock_rules::ids::TxHash;
use penstock_rules::message::{Discard, DiscardReply};
use penstock_rules::producer::Timetable;
use penstock_rules::tx::Stage;
use penstock_wire::{BusError, Message, decode, encode};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// How long an order waits for its answer: longer than the producer keeps it.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transaction that is to be dropped is waited for, while it is not yet known what it asks for: far longer than that
/// takes on a loaded machine.
const FOUND_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two looks at transactions that are on their way to be ready.
const LOOK: Duration = Duration::from_millis(2);

#[async_trait]
impl DevControl for Gateway {
    fn allowed(&self) -> Result<(), RpcError> {
        let spec = &self.head().chain.spec;
        if dev::allowed(spec) {
            return Ok(());
        }
        let producers = u32::try_from(spec.producers.len()).unwrap_or(u32::MAX);
        Err(DevRefusal::Producers { producers }.into())
    }

    fn settings(&self) -> Settings {
        dev::settings(&self.head().chain.state)
    }

    fn timetable(&self) -> Timetable {
        let set = DevControl::settings(self).mining;
        set.unwrap_or(self.config.timetable)
    }

    async fn change(&self, changes: Vec<Change>) -> Result<DevDone, RpcError> {
        self.order(DevOrder::Change(changes)).await
    }

    async fn mine(&self, time: MineTime) -> Result<DevDone, RpcError> {
        let wanted = self.settle().await;
        self.order(DevOrder::Mine { wanted, time }).await
    }

    async fn snapshot(&self) -> Result<u64, RpcError> {
        let at = ChainReader::head(self).height();
        let done = self.ask_producer(&DevAsk::Snapshot { at }).await?;
        Ok(done.snapshot)
    }

    async fn discard(&self, hashes: Option<Vec<TxHash>>) -> Result<Vec<TxHash>, RpcError> {
        self.found(hashes.as_deref()).await;
        let subject = self.subjects.discard();
        let reply: DiscardReply = self.request(&subject, &Discard { hashes }).await?;
        for hash in &reply.gone {
            self.pool.remove(*hash);
        }
        let hashes = reply.gone.clone();
        self.ask_producer(&DevAsk::Forget { hashes }).await?;
        Ok(reply.gone)
    }

    async fn send_as(&self, from: Address, tx: TypedTransaction) -> Result<TxHash, RpcError> {
        self.allowed()?;
        let raw: Bytes = dev::impersonated(tx, from).encoded_2718().into();
        Ok(self.accept(raw).await?)
    }

    async fn dump(&self) -> Result<BTreeMap<Address, DumpedAccount>, RpcError> {
        let state = self.head().chain.state.clone();
        let work = tokio::task::spawn_blocking(move || {
            let accounts = dev::dump(&state).into_iter();
            accounts
                .map(|(address, account)| {
                    let account = DumpedAccount {
                        nonce: account.nonce,
                        balance: account.balance,
                        code: account.code,
                        storage: account.storage,
                    };
                    (address, account)
                })
                .collect()
        });
        work.await
            .map_err(|error| RpcError::Internal(error.to_string()))
    }
}

impl Gateway {
    async fn order(&self, order: DevOrder) -> Result<DevDone, RpcError> {
        // Subscribed before the order, so that its block does not pass unseen.
        let mut blocks = self.new_blocks.subscribe();
        let done = self.ask_producer(&DevAsk::Block(order)).await?;
        let seen = async {
            while ChainReader::head(self).height() < done.height {
                if let Err(RecvError::Closed) = blocks.recv().await {
                    break;
                }
            }
        };
        if tokio::time::timeout(ORDER_TIMEOUT, seen).await.is_err() {
            return Err(RpcError::Internal(format!(
                "block {} was made, but is not here yet",
                done.height
            )));
        }
        Ok(done)
    }

    async fn ask_producer(&self, ask: &DevAsk) -> Result<DevDone, RpcError> {
        self.allowed()?;
        let answer: DevAnswer = self.request(&self.subjects.dev(), ask).await?;
        Ok(answer.result?)
    }

    async fn request<Q: Message + Sync, A: Message>(
        &self,
        subject: &str,
        message: &Q,
    ) -> Result<A, RpcError> {
        let bus = &self.transport.bus;
        let reply = bus.request(subject, encode(message), ORDER_TIMEOUT).await;
        let bytes = reply.map_err(|error| match error {
            BusError::NoResponder(_) => RpcError::Dev(DevRefusal::NotLeading),
            BusError::TooLarge { .. } => RpcError::Dev(DevRefusal::TooLarge),
            error => RpcError::Internal(error.to_string()),
        })?;
        decode(&bytes).map_err(|error| RpcError::Internal(error.to_string()))
    }

    /// Waits until of these transactions, or of all, it is known whether they are ready: what the producer hears of one after
    /// it was told to forget it would bring it back.
    async fn found(&self, hashes: Option<&[TxHash]>) {
        let deadline = Instant::now() + FOUND_PATIENCE;
        let on_its_way = |hash| {
            let last = self.statuses.last(hash);
            matches!(last, None | Some(Stage::Accepted | Stage::Queued))
        };
        while Instant::now() < deadline {
            let pool = ChainReader::pool(self);
            let mut asked = pool.iter().filter(|entry| {
                !entry.queued && hashes.is_none_or(|hashes| hashes.contains(&entry.tx.tx.hash))
            });
            if !asked.any(|entry| on_its_way(entry.tx.tx.hash)) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until what this node took of executable transactions is ready or can't be now; gives what is ready, and after
    /// the deadline also what it has heard nothing of. A block never waits for inference: it is who asks for the block that
    /// waits, as long as a call would.
    async fn settle(&self) -> Vec<TxHash> {
        let deadline = Instant::now() + self.config.call_deadline;
        loop {
            let (mut ready, mut unknown, mut moving) = (Vec::new(), Vec::new(), false);
            for entry in ChainReader::pool(self).iter().filter(|e| !e.queued) {
                let hash = entry.tx.tx.hash;
                match self.statuses.last(hash) {
                    Some(Stage::Ready) => ready.push(hash),
                    None => unknown.push(hash),
                    Some(Stage::Accepted | Stage::Queued | Stage::Inferring { .. }) => {
                        moving = true;
                    }
                    Some(
                        Stage::Deferred { .. } | Stage::Included { .. } | Stage::Dropped { .. },
                    ) => {}
                }
            }
            if Instant::now() >= deadline || !moving && unknown.is_empty() {
                // Of some it was said before this node listened: the producer knows.
                ready.append(&mut unknown);
                return ready;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
