//! A signature of data: equal data, equal signature, wherever and in whatever encoding it is kept.
//!
//! It is the one that Redis's DEBUG DIGEST shows, so that the data of both can be compared. What has no order is combined
//! by XOR of SHA-1s, what has one by hashing on.

use sha1::{Digest as _, Sha1};

use crate::keyspace::{Entry, Keyspace, SpaceId};
use crate::types::AnyRef;
use crate::types::zset::value::ZsetRef;

/// A signature.
pub(crate) type Digest = [u8; 20];

/// The signature of no data.
pub(crate) const NOTHING: Digest = [0; 20];

/// The numbers by which types enter the signature.
mod type_number {
    pub(super) const STRING: u32 = 0;
    pub(super) const SET: u32 = 2;
    pub(super) const LIST: u32 = 1;
    pub(super) const ZSET: u32 = 3;
    pub(super) const HASH: u32 = 4;
    pub(super) const MODULE: u32 = 5;
    pub(super) const STREAM: u32 = 6;
}

/// The signature of all databases of a space.
pub(crate) fn of_space(keyspace: &Keyspace, space: SpaceId) -> Digest {
    let mut digest = NOTHING;
    for (_, index, db) in keyspace.iter().filter(|(of, _, db)| *of == space && !db.dict().is_empty()) {
        mix(&mut digest, &index.to_be_bytes());
        for entry in db.dict().iter() {
            let mut pair = NOTHING;
            mix(&mut pair, entry.key());
            mix_value(&mut pair, entry);
            add(&mut digest, &pair);
        }
    }
    digest
}

/// The signature of a value, whatever its key. That it has a deadline counts, which one does not: whoever compares data
/// compares deadlines as well.
pub(crate) fn of_value(entry: &Entry) -> Digest {
    let mut digest = NOTHING;
    mix_value(&mut digest, entry);
    digest
}

/// Hexadecimal digits.
pub(crate) fn hex(digest: Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mix_value(digest: &mut Digest, entry: &Entry) {
    match AnyRef::of(entry) {
        AnyRef::Str(text) => {
            mix(digest, &type_number::STRING.to_be_bytes());
            mix(digest, &text.bytes());
        }
        AnyRef::Hash(hash) => {
            mix(digest, &type_number::HASH.to_be_bytes());
            hash.iter().for_each(|(field, value)| add_pair(digest, field, value));
            hash.deadlines().iter().for_each(|(field, _)| add_pair(digest, field, b"!!expire!!"));
        }
        AnyRef::Set(set) => {
            mix(digest, &type_number::SET.to_be_bytes());
            set.iter().for_each(|member| add(digest, &member.text()));
        }
        AnyRef::Zset(zset) => {
            mix(digest, &type_number::ZSET.to_be_bytes());
            for (score, member) in zset.iter() {
                // Redis forgets the sign of a zero in small sets, and keeps it in large ones.
                let score = if score == 0.0 && matches!(zset, ZsetRef::Packed(_)) { 0.0 } else { score };
                add_pair(digest, member, mortise_sdk::resp::format_double(score).as_bytes());
            }
        }
        AnyRef::List(list) => {
            mix(digest, &type_number::LIST.to_be_bytes());
            list.show_each(0..list.len(), |item| mix(digest, &item.text()));
        }
        AnyRef::Stream(stream) => {
            mix(digest, &type_number::STREAM.to_be_bytes());
            for entry in stream.iter() {
                let id = entry.id();
                mix(digest, format!("{}.{}", id.ms, id.seq).as_bytes());
                for item in entry.pairs().flat_map(|(field, value)| [field, value]) {
                    item.with_bytes(|bytes| mix(digest, bytes));
                }
            }
        }
        AnyRef::Foreign(foreign) => {
            mix(digest, &type_number::MODULE.to_be_bytes());
            match foreign.save() {
                Ok(bytes) => add(digest, &bytes),
                Err(reason) => {
                    tracing::warn!("A value of type '{}' cannot be saved: {reason}", foreign.type_name());
                    add(digest, b"!!cannot be saved!!");
                }
            }
        }
    }
    if entry.has_deadline() {
        add(digest, b"!!expire!!");
    }
}

fn add_pair(digest: &mut Digest, name: &[u8], value: &[u8]) {
    let mut pair = NOTHING;
    mix(&mut pair, name);
    mix(&mut pair, value);
    add(digest, &pair);
}

/// Adds what has no place in an order.
fn add(digest: &mut Digest, data: &[u8]) {
    let hash: Digest = Sha1::digest(data).into();
    digest.iter_mut().zip(hash).for_each(|(byte, other)| *byte ^= other);
}

/// Adds what follows upon what was added before.
fn mix(digest: &mut Digest, data: &[u8]) {
    add(digest, data);
    *digest = Sha1::digest(*digest).into();
}

impl crate::engine::Engine {
    /// The digest of all data, as DEBUG DIGEST shows it: equal for equal data, whatever its encoding.
    pub fn digest(&self) -> String {
        hex(of_space(&self.keyspace, SpaceId::FIRST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_counts_only_where_there_is_one() {
        let of = |first: &[u8], second: &[u8], combine: fn(&mut Digest, &[u8])| {
            let mut digest = NOTHING;
            combine(&mut digest, first);
            combine(&mut digest, second);
            digest
        };
        assert_eq!(of(b"a", b"b", add), of(b"b", b"a", add));
        assert_ne!(of(b"a", b"b", mix), of(b"b", b"a", mix));
    }
}
