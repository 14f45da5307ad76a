//! Values out of the fuzzer's bytes; zeros when they are used up.

/// What is left of them.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn number<const N: usize>(&mut self) -> u64 {
        self.bytes(N).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        head
    }
}
