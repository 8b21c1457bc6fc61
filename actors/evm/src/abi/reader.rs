//! A strict reader of ABI-encoded calldata with a budget.
//!
//! The ABI lets offsets overlap, so a few kilobytes can stand for gigabytes of nested arrays. Every word that is read
//! is therefore taken from a budget of as many words as the calldata have: a canonical encoding uses each word once, so
//! it always fits, and no other encoding can cost more than its own length.

/// The calldata end too early, hold a value out of range, or read more than they are long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Bytes of an ABI word.
const WORD: usize = 32;

/// A view of ABI data that starts at a tuple or array head; offsets count from that start.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

/// Words that may still be read.
pub(crate) struct Budget(usize);

impl Budget {
    /// As many words as `data` have, begun ones included.
    pub(crate) fn of(data: &[u8]) -> Self {
        Self(data.len().div_ceil(WORD))
    }

    fn take(&mut self, words: usize) -> Result<(), Malformed> {
        self.0 = self.0.checked_sub(words).ok_or(Malformed)?;
        Ok(())
    }
}

impl<'a> Reader<'a> {
    /// Reads from the start of `data` (the arguments, after the selector).
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    fn word(&mut self, budget: &mut Budget) -> Result<&'a [u8; WORD], Malformed> {
        budget.take(1)?;
        let word = self
            .data
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<WORD>())
            .ok_or(Malformed)?;
        self.at += WORD;
        Ok(word)
    }

    /// An unsigned integer of at most 64 bits.
    pub(crate) fn u64(&mut self, budget: &mut Budget) -> Result<u64, Malformed> {
        let (high, low) = self.word(budget)?.split_at(WORD - 8);
        if high.iter().any(|byte| *byte != 0) {
            return Err(Malformed);
        }
        Ok(u64::from_be_bytes(low.try_into().map_err(|_| Malformed)?))
    }

    /// A `uint32`.
    pub(crate) fn u32(&mut self, budget: &mut Budget) -> Result<u32, Malformed> {
        u32::try_from(self.u64(budget)?).map_err(|_| Malformed)
    }

    /// A `uint8` or an enum.
    pub(crate) fn u8(&mut self, budget: &mut Budget) -> Result<u8, Malformed> {
        u8::try_from(self.u64(budget)?).map_err(|_| Malformed)
    }

    /// An `int128`, whose upper half must extend its sign.
    pub(crate) fn i128(&mut self, budget: &mut Budget) -> Result<i128, Malformed> {
        let (high, low) = self.word(budget)?.split_at(WORD - 16);
        let value = i128::from_be_bytes(low.try_into().map_err(|_| Malformed)?);
        let sign = if value < 0 { 0xff } else { 0 };
        if high.iter().any(|byte| *byte != sign) {
            return Err(Malformed);
        }
        Ok(value)
    }

    /// Follows an offset to a dynamic value.
    pub(crate) fn follow(&mut self, budget: &mut Budget) -> Result<Self, Malformed> {
        let offset = usize::try_from(self.u64(budget)?).map_err(|_| Malformed)?;
        let data = self.data.get(offset..).ok_or(Malformed)?;
        Ok(Self { data, at: 0 })
    }

    /// Begins an array: its length, and a reader of its elements, whose offsets count from the first one.
    /// `words` is the size of an element's head; a length that the data can't hold is refused at once.
    pub(crate) fn array(
        &mut self,
        words: usize,
        budget: &mut Budget,
    ) -> Result<(usize, Self), Malformed> {
        let mut array = self.follow(budget)?;
        let count = usize::try_from(array.u64(budget)?).map_err(|_| Malformed)?;
        let data = &array.data[array.at..];
        let bytes = count.checked_mul(words * WORD).ok_or(Malformed)?;
        if bytes > data.len() || count.saturating_mul(words) > budget.0 {
            return Err(Malformed);
        }
        Ok((count, Self { data, at: 0 }))
    }

    /// A `string`.
    pub(crate) fn string(&mut self, budget: &mut Budget) -> Result<String, Malformed> {
        let mut text = self.follow(budget)?;
        let length = usize::try_from(text.u64(budget)?).map_err(|_| Malformed)?;
        let bytes = text
            .data
            .get(text.at..)
            .and_then(|rest| rest.get(..length))
            .ok_or(Malformed)?;
        budget.take(length.div_ceil(WORD))?;
        Ok(std::str::from_utf8(bytes)
            .map_err(|_| Malformed)?
            .to_owned())
    }
}
