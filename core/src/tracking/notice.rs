//! What is said to who may have copies of keys.

use bytes::Bytes;
use mortise_sdk::resp::encode::{self, Version};

use crate::engine::session::ClientId;

/// The channel in which those on RESP2 are told whom another client has named for that.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// That keys have changed. It is encoded when the first receiver of its kind needs it, and shared.
pub(super) struct Notice<'a> {
    /// Which keys; `None` for all.
    keys: Option<&'a [&'a [u8]]>,
    pushed: Option<Bytes>,
    message: Option<Bytes>,
}

impl<'a> Notice<'a> {
    /// Some keys have changed.
    pub(super) fn of(keys: &'a [&'a [u8]]) -> Notice<'a> {
        Notice { keys: Some(keys), pushed: None, message: None }
    }

    /// Everything has changed.
    pub(super) fn of_all() -> Notice<'static> {
        Notice { keys: None, pushed: None, message: None }
    }

    fn encode(&self, version: Version, words: &[&[u8]]) -> Bytes {
        let keys_len: usize = self.keys.into_iter().flatten().map(|key| key.len() + 16).sum();
        let mut frame = Vec::with_capacity(64 + keys_len);
        encode::push(&mut frame, version, words.len() + 1);
        words.iter().for_each(|word| encode::bulk(&mut frame, word));
        match self.keys {
            Some(keys) => {
                encode::array(&mut frame, keys.len());
                keys.iter().for_each(|key| encode::bulk(&mut frame, key));
            }
            None => encode::null(&mut frame, version),
        }
        frame.into()
    }

    /// As it is pushed on RESP3; there is no such thing on RESP2.
    pub(super) fn pushed(&mut self, version: Version) -> Option<Bytes> {
        if version != Version::Resp3 {
            return None;
        }
        if self.pushed.is_none() {
            self.pushed = Some(self.encode(version, &[b"invalidate"]));
        }
        self.pushed.clone()
    }

    /// As a message of a channel, for RESP2.
    pub(super) fn message(&mut self) -> Bytes {
        if let Some(message) = &self.message {
            return message.clone();
        }
        let message = self.encode(Version::Resp2, &[b"message", CHANNEL]);
        self.message.insert(message).clone()
    }
}

/// That whoever was to be told instead has gone, where that can be said.
pub(super) fn broken(version: Version, redirect: ClientId) -> Option<Bytes> {
    (version == Version::Resp3).then(|| {
        let mut frame = Vec::new();
        encode::push(&mut frame, version, 2);
        encode::bulk(&mut frame, b"tracking-redir-broken");
        encode::integer(&mut frame, redirect as i64);
        frame.into()
    })
}
