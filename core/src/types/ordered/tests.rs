//! Against a model, with random edits of two clones.

use std::collections::BTreeMap;

use super::{Ordered, Value};
use crate::engine::random::Random;

/// Weighs itself, so that totals can be told from numbers of items.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weight(usize);

impl Value for Weight {
    type Total = usize;

    fn total(&self) -> usize {
        self.0
    }
}

fn assert_same(map: &Ordered<u64, Weight>, model: &BTreeMap<u64, Weight>) {
    assert!(map.iter().eq(model));
    assert!(map.iter_down().eq(model.iter().rev()));
    assert_eq!(map.total(), model.values().map(|weight| weight.0).sum());
    assert_eq!(map.is_empty(), model.is_empty());
    assert_eq!((map.first(), map.last()), (model.iter().next(), model.iter().next_back()));
}

#[test]
fn as_a_model_does() {
    for (keys, edits) in [(30, 2_000), (3_000, 30_000), (100_000, 60_000)] {
        let mut random = Random::new(keys);
        let mut map = Ordered::default();
        let mut model: BTreeMap<u64, Weight> = BTreeMap::new();
        let mut kept = (map.clone(), model.clone());
        for edit in 0..edits {
            let (key, weight) = (random.word() % keys, Weight(1 + random.below(9)));
            // It grows at first, then shrinks, and so on.
            match (edit / 4_000) % 2 == 0 {
                _ if random.below(400) == 0 => {
                    let cut = model.iter().nth(random.below(model.len() / 8 + 1)).map_or(0, |(key, _)| *key);
                    assert_eq!(map.total_below(&cut), model.range(..cut).map(|(_, weight)| weight.0).sum());
                    map.cut_front(&cut);
                    model = model.split_off(&cut);
                }
                _ if random.below(8) == 0 => {
                    let change = |value: &mut Weight| std::mem::replace(value, weight);
                    let old = match random.below(2) {
                        0 => (map.change(&key, change), model.get_mut(&key).map(change)),
                        _ => (map.change_last(change), model.values_mut().next_back().map(change)),
                    };
                    assert_eq!(old.0, old.1);
                }
                grows if random.below(4) == 0 || !grows => {
                    assert_eq!(map.remove(&key), model.remove(&key));
                }
                _ => assert_eq!(map.insert(key, weight), model.insert(key, weight)),
            }
            assert_eq!(map.get(&key), model.get(&key));
            if edit % 64 == 0 {
                assert!(map.up_from(&key).take(70).eq(model.range(key..).take(70)));
                assert!(map.down_from(&key).take(70).eq(model.range(..=key).rev().take(70)));
                let most = random.below(map.total() + 2);
                let mut sum = 0;
                let beyond = model.iter().find(|(_, weight)| {
                    sum += weight.0;
                    sum > most
                });
                assert_eq!(map.first_beyond(|total| total <= most), beyond);
            }
            if edit % 3_000 == 0 {
                assert_same(&map, &model);
                assert_same(&kept.0, &kept.1);
                kept = (map.clone(), model.clone());
            }
        }
        assert_same(&map, &model);
    }
}

#[test]
fn what_comes_in_order_stands_densely() {
    let mut map = Ordered::default();
    (0..64 * 64 * 3).for_each(|key: u64| assert!(map.insert(key, ()).is_none()));
    assert_eq!(map.len(), 64 * 64 * 3);
    let mut leaves: Vec<usize> = Vec::new();
    let mut iter = map.iter();
    while iter.next().is_some() {
        if iter.at == 1 {
            leaves.push(iter.items.len());
        }
    }
    assert!(leaves.iter().all(|len| *len == 64), "{leaves:?}");
    (0..64 * 64 * 3).for_each(|key| assert!(map.remove(&key).is_some()));
    assert!(map.is_empty() && map.first().is_none() && map.iter().next().is_none());
}
