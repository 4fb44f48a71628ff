//! What holds a small collection in one string, and compressed texts: any bytes are refused, or come as they are said to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mortise_core::persistence::snapshot::blob::intset::{self, Intset};
use mortise_core::persistence::snapshot::blob::listpack::{Builder, Listpack};
use mortise_core::persistence::snapshot::blob::ziplist::Ziplist;
use mortise_core::persistence::snapshot::blob::zipmap::Zipmap;
use mortise_core::persistence::snapshot::lzf::{self, Compressor};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pack) = Listpack::parse(bytes) {
        let items: Vec<_> = pack.iter().map(|item| item.to_vec()).collect();
        assert_eq!(items.len(), pack.len());
        let mut builder = Builder::default();
        items.iter().for_each(|item| builder.push(item));
        let again = builder.finish();
        let again = Listpack::parse(&again).expect("it was built");
        assert!(again.iter().map(|item| item.to_vec()).eq(items));
    }
    if let Ok(list) = Ziplist::parse(bytes) {
        assert_eq!(list.iter().count(), list.len());
    }
    if let Ok(set) = Intset::parse(bytes) {
        let again = intset::build(set.iter());
        assert!(Intset::parse(&again).expect("it was built").iter().eq(set.iter()));
    }
    if let Ok(map) = Zipmap::parse(bytes) {
        assert_eq!(map.iter().count(), map.len());
    }
    if let Some((len, compressed)) = bytes.split_first() {
        if let Ok(text) = lzf::expand(compressed, usize::from(*len)) {
            assert_eq!(text.len(), usize::from(*len));
        }
    }
    let mut compressed = Vec::new();
    if Compressor::default().compress(bytes, 0, &mut compressed) {
        assert!(compressed.len() < bytes.len());
        assert_eq!(lzf::expand(&compressed, bytes.len()).expect("it was compressed"), bytes);
    }
});
