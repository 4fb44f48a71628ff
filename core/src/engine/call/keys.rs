//! Calls of many keys.

use super::{Call, Key};

/// So many keys are fetched together: about as many as a core has loads under way.
const TOGETHER: usize = 16;

impl<'c> Call<'c> {
    /// Does something with each key among the arguments from `first` on, `step` arguments apart, in their order; says for
    /// how many it was done. Keys that stand side by side in a request lie anywhere in memory, so what the next ones need
    /// is fetched into the cache together, before it is needed.
    #[inline(always)]
    pub fn each_key(
        &mut self,
        first: usize,
        step: usize,
        mut act: impl FnMut(&mut Self, usize, Key<'c>) -> bool,
    ) -> usize {
        let (mut done, mut from) = (0, first);
        while from < self.argc() {
            let mut keys = [Key { bytes: b"", hash: 0 }; TOGETHER];
            let indices = (from..self.argc()).step_by(step).take(TOGETHER);
            let len = indices.len();
            for (key, index) in keys.iter_mut().zip(indices) {
                *key = self.key(index);
            }
            let keys = &keys[..len];
            self.fetch(keys);
            for (nth, key) in keys.iter().enumerate() {
                done += usize::from(act(self, from + nth * step, *key));
            }
            from += len * step;
        }
        done
    }

    /// Fetches into the cache what is needed first of each key.
    #[inline(always)]
    fn fetch(&self, keys: &[Key<'_>]) {
        if keys.len() < 2 {
            return;
        }
        let Some(db) = self.engine.keyspace.existing(self.session.space, self.session.db) else { return };
        keys.iter().for_each(|key| db.dict().prefetch_bucket(key.hash));
        keys.iter().for_each(|key| db.dict().prefetch_entry(key.hash));
    }
}
