//! A heap whose greatest is mostly followed by something nearly as great: what is pushed next takes the place of what was
//! taken last, and seldom sinks far.

/// Children of an entry: two lines of the cache, and half as many levels as with two.
const CHILDREN: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Heap<T> {
    items: Vec<T>,
    /// The first was taken, and stands there still.
    taken: bool,
}

impl<T: Copy + Ord> Heap<T> {
    pub(super) fn of(items: Vec<T>) -> Self {
        let mut heap = Self {
            items,
            taken: false,
        };
        for at in (0..heap.items.len().div_ceil(CHILDREN)).rev() {
            heap.sink(at);
        }
        heap
    }

    /// Its entries, in no order.
    pub(super) fn into_items(self) -> Vec<T> {
        self.items
    }

    pub(super) fn push(&mut self, item: T) {
        if std::mem::take(&mut self.taken) {
            self.items[0] = item;
            self.sink(0);
        } else {
            self.items.push(item);
            self.rise(self.items.len() - 1);
        }
    }

    /// Takes the greatest.
    pub(super) fn take(&mut self) -> Option<T> {
        if std::mem::take(&mut self.taken) {
            let last = self.items.pop()?;
            if let Some(first) = self.items.first_mut() {
                *first = last;
                self.sink(0);
            }
        }
        let first = self.items.first().copied();
        self.taken = first.is_some();
        first
    }

    /// The greatest of what is left; of equals one, not always the one that is taken next.
    pub(super) fn peek(&self) -> Option<T> {
        if self.taken {
            let children = self.items.iter().skip(1).take(CHILDREN);
            children.max().copied()
        } else {
            self.items.first().copied()
        }
    }

    /// Moves an entry down until what is below it is no greater.
    fn sink(&mut self, mut at: usize) {
        let Some(&item) = self.items.get(at) else {
            return;
        };
        loop {
            let below = at * CHILDREN + 1;
            let n = match self.items.get(below..) {
                // Without a branch, which nobody could foretell.
                Some([a, b, c, d, ..]) => {
                    let (left, right) = (usize::from(a < b), 2 + usize::from(c < d));
                    let less = self.items[below + left] < self.items[below + right];
                    if less { right } else { left }
                }
                Some(last) => {
                    let greatest = last.iter().enumerate().max_by_key(|(_, item)| **item);
                    let Some((n, _)) = greatest else {
                        break;
                    };
                    n
                }
                None => break,
            };
            let child = self.items[below + n];
            if child <= item {
                break;
            }
            self.items[at] = child;
            at = below + n;
        }
        self.items[at] = item;
    }

    /// Moves an entry up until what is above it is no less.
    fn rise(&mut self, mut at: usize) {
        let item = self.items[at];
        while at > 0 {
            let above = (at - 1) / CHILDREN;
            if self.items[above] >= item {
                break;
            }
            self.items[at] = self.items[above];
            at = above;
        }
        self.items[at] = item;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BinaryHeap;

    proptest! {
        /// Against the library's heap: what both are given, both give back in the same order.
        #[test]
        fn the_greatest_comes_first(
            first in proptest::collection::vec(any::<u8>(), 0..40),
            steps in proptest::collection::vec(proptest::option::of(any::<u8>()), 0..200),
        ) {
            let mut heap = Heap::of(first.clone());
            let mut library = BinaryHeap::from(first);
            for step in steps {
                match step {
                    Some(item) => {
                        heap.push(item);
                        library.push(item);
                    }
                    None => prop_assert_eq!(heap.take(), library.pop()),
                }
                prop_assert_eq!(heap.peek(), library.peek().copied());
            }
        }
    }
}
