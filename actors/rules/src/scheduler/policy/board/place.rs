//! What is put on the board, and taken off without a trace.

use super::room::Found;
use super::{Ask, Board, Margin, Miss, Spot, Step};
use crate::ids::Micros;
use crate::scheduler::model::{Batch, NONE, Pass, Problem, Urgency};

impl Board {
    /// Places all of a gang, or nothing.
    pub(crate) fn place(
        &mut self,
        p: &Problem,
        asks: impl Iterator<Item = Ask> + Clone,
        pass: Pass,
        until: Option<Micros>,
        urgency: Urgency,
        opener: u32,
    ) -> Result<(), Miss> {
        let result = self.place_some(p, asks, pass, until, urgency, opener);
        if result.is_err() {
            self.undo();
        }
        self.steps.clear();
        result
    }

    /// Places what finds a place, and keeps it even where the rest does not: what baselines do.
    pub(crate) fn place_partly(
        &mut self,
        p: &Problem,
        needs: &[u32],
        pass: Pass,
        until: Option<Micros>,
        urgency: Urgency,
        opener: u32,
    ) -> Result<(), Miss> {
        let mut result = Ok(());
        for need in needs {
            let need = Ask::all(p, std::slice::from_ref(need), opener);
            result = result.and(self.place(p, need, pass, until, urgency, opener));
        }
        result
    }

    fn place_some(
        &mut self,
        p: &Problem,
        asks: impl Iterator<Item = Ask> + Clone,
        pass: Pass,
        until: Option<Micros>,
        urgency: Urgency,
        opener: u32,
    ) -> Result<(), Miss> {
        let deadline = self.deadline(p, pass);
        let deadline = until.map_or(deadline, |u| deadline.min(u.saturating_sub(p.now).0));
        let mut rest = asks;
        while let Some(ask) = rest.next() {
            let Ask {
                key,
                spread,
                state,
                homes,
            } = ask;
            let margin = match self.margin {
                Margin::On => state.margin(p.tuning.margin_sigmas),
                Margin::Off => 0,
            };
            let late = state
                .ready_at
                .saturating_sub(p.now)
                .0
                .saturating_add(margin)
                > deadline;
            let spot = self.spots[key as usize];
            if late || spot.placed > 0 && spot.pass > pass as u8 {
                return Err(Miss::Late);
            }
            for _ in spot.placed.into()..state.copies {
                let taken = match state.copies {
                    1 => 0,
                    _ => self.taken.get(&key).copied().unwrap_or(0),
                };
                let barred = state.barred | taken;
                let first = self.steps.is_empty();
                if barred == 0 && self.full[pass as usize][state.model as usize] {
                    return Err(Miss::Full);
                }
                // What would be taken off again is not put on; that of several copies another finds no shard at all is
                // said, though.
                let plain = first && barred == 0 && until.is_none();
                let no_room =
                    || first && state.copies == 1 && self.finds_no_room(rest.clone(), pass);
                if plain && self.roomy.contains(&(pass, state.model)) && no_room() {
                    return Err(Miss::Full);
                }
                let choose =
                    |barred| self.choose(p, state.model, barred, pass, deadline, spread.into());
                let found = match homes & !barred {
                    0 => choose(barred),
                    homes => choose(!homes).or_else(|_| choose(barred)),
                };
                match found {
                    Ok(_) if no_room() => {
                        if plain && !self.roomy.contains(&(pass, state.model)) {
                            self.roomy.push((pass, state.model));
                        }
                        return Err(Miss::Full);
                    }
                    Ok(found) => self.put(p, &ask, found, pass, urgency, opener),
                    Err(miss) => {
                        // Where even an empty undo list finds nothing, nobody will in this pass: loads only grow.
                        if plain && miss == Miss::Full {
                            self.full[pass as usize][state.model as usize] = true;
                        }
                        return Err(miss);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether one of these asks for a model of which it is known that there is no room, and nothing before it could
    /// find no shard at all.
    fn finds_no_room(&self, asks: impl Iterator<Item = Ask>, pass: Pass) -> bool {
        for Ask { key, state, .. } in asks {
            if !state.is_plain() || self.hosts[state.model as usize].is_empty() {
                return false;
            }
            let full = self.full[pass as usize][state.model as usize];
            if full && self.spots[key as usize].placed == 0 {
                return true;
            }
        }
        false
    }

    fn put(
        &mut self,
        p: &Problem,
        &Ask { key, state, .. }: &Ask,
        found: Found,
        pass: Pass,
        urgency: Urgency,
        opener: u32,
    ) {
        let Found {
            shard,
            join,
            add,
            variance,
        } = found;
        self.roomy.clear();
        let model = state.model;
        let table = model as usize * self.shards + shard as usize;
        let hint = std::mem::replace(&mut self.hint[pass as usize][model as usize], shard);
        let (batch, opened) = if let Some(batch) = join {
            (batch, None)
        } else {
            let batch = self.batches.len() as u32;
            self.batch_kept.push(0);
            self.batches.push(Batch {
                shard,
                model,
                pass,
                keys: Vec::new(),
                urgency,
                opener: p.gangs[opener as usize].id,
            });
            let before = std::mem::replace(&mut self.open[pass as usize][table], batch);
            (batch, Some(before))
        };
        let kept = self.batch_kept[batch as usize];
        let left = match opened {
            Some(_) => self.to_keep(p, model, shard, pass),
            None => kept - kept.min(add),
        };
        let entry = &mut self.batches[batch as usize];
        self.steps.push(Step {
            key,
            batch,
            table,
            opened,
            urgency: entry.urgency,
            key_pass: self.spots[key as usize].pass,
            asked: pass,
            hint,
            add,
            variance,
            kept,
        });
        // What rides along does not make a batch of this block more urgent.
        if entry.pass == pass {
            entry.urgency = entry.urgency.join(urgency);
        }
        entry.keys.push(key);
        let at = entry.pass as usize;
        self.keep_free(batch, left);
        let side = &mut self.sides[shard as usize];
        side.load[at] += add;
        side.variance[at] += variance;
        self.used.push(key);
        let spot = &mut self.spots[key as usize];
        spot.placed += 1;
        spot.pass = spot.pass.max(at as u8);
        spot.shard = shard as u8;
        if state.copies > 1 {
            *self.taken.entry(key).or_default() |= 1 << shard;
        }
    }

    /// Has a batch keep so many microseconds free.
    fn keep_free(&mut self, batch: u32, time: u64) {
        let Batch { pass, shard, .. } = self.batches[batch as usize];
        let kept = &mut self.sides[shard as usize].kept[pass as usize];
        let before = std::mem::replace(&mut self.batch_kept[batch as usize], time);
        *kept = *kept - before + time;
    }

    fn undo(&mut self) {
        self.roomy.clear();
        while let Some(step) = self.steps.pop() {
            self.keep_free(step.batch, step.kept);
            let batch = &mut self.batches[step.batch as usize];
            let (at, shard, model) = (batch.pass as usize, batch.shard, batch.model);
            batch.keys.pop();
            batch.urgency = step.urgency;
            let side = &mut self.sides[shard as usize];
            side.load[at] -= step.add;
            side.variance[at] -= step.variance;
            let spot = &mut self.spots[step.key as usize];
            spot.placed -= 1;
            spot.pass = step.key_pass;
            if spot.placed == 0 {
                spot.shard = 0;
            }
            if let Some(taken) = self.taken.get_mut(&step.key) {
                *taken &= !(1 << shard);
                if *taken == 0 {
                    self.taken.remove(&step.key);
                }
            }
            if let Some(before) = step.opened {
                self.open[at][step.table] = before;
                self.batches.pop();
                self.batch_kept.pop();
            }
            self.hint[step.asked as usize][model as usize] = step.hint;
        }
    }

    /// A batch went to its shard: from now on the problem has it, as work that is under way.
    pub(crate) fn dispatched(&mut self, p: &Problem, batch: u32) {
        self.roomy.clear();
        self.keep_free(batch, 0);
        let Batch {
            shard,
            model,
            pass,
            ref mut keys,
            ..
        } = self.batches[batch as usize];
        let keys = std::mem::take(keys);
        let (s, at) = (shard as usize, pass as usize);
        let cost = p.cost(model, shard);
        let time = cost.batch(keys.len() as u64);
        let side = &mut self.sides[s];
        side.load[at] = side.load[at].saturating_sub(time);
        side.variance[at] = side.variance[at].saturating_sub(cost.variance);
        let open = &mut self.open[at][model as usize * self.shards + s];
        if *open == batch {
            *open = NONE;
        }
        for key in keys {
            let placed = &mut self.spots[key as usize].placed;
            *placed = placed.saturating_sub(1);
            if let Some(taken) = self.taken.get_mut(&key) {
                *taken &= !(1 << shard);
            }
        }
    }

    /// Makes room for keys that came after the plan.
    pub(crate) fn grow(&mut self, p: &Problem) {
        self.spots.resize(p.keys.len(), Spot::default());
    }
}
