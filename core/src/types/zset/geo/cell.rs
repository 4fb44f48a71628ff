//! Points, and the cells of a grid that halves the map again and again: geohashes.

use super::limits;

/// Bits of each coordinate in a score.
pub(super) const STEPS_MAX: u32 = 26;

/// Metres from the centre of the earth to its surface, as the great-circle distance takes it.
pub(super) const EARTH_RADIUS: f64 = 6_372_797.560_856;

/// A place on the map, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) longitude: f64,
    pub(super) latitude: f64,
}

impl Point {
    /// Whether it is one that can be stored.
    pub(super) fn is_on_map(self) -> bool {
        let within = |degrees: f64, (min, max): (f64, f64)| (min..=max).contains(&degrees);
        within(self.longitude, limits::LONGITUDE) && within(self.latitude, limits::LATITUDE)
    }

    /// The point that a score means: the centre of its cell.
    pub(super) fn of_score(score: f64) -> Point {
        // A score that was not made from a point may be negative: its bits are taken as they come.
        let bits = match score {
            _ if score < i64::MAX as f64 => score as i64 as u64,
            _ if score < u64::MAX as f64 => score as u64,
            // What no word holds is nothing.
            _ => 0,
        };
        let area = Cell { bits, steps: STEPS_MAX }.area();
        let middle = |(min, max): (f64, f64), (low, high): (f64, f64)| ((min + max) / 2.0).clamp(low, high);
        Point {
            longitude: middle(area.longitude, limits::LONGITUDE),
            latitude: middle(area.latitude, limits::LATITUDE),
        }
    }

    /// The score under which a point is stored.
    pub(super) fn score(self) -> f64 {
        Cell::at(self, STEPS_MAX).first_score() as f64
    }

    /// Metres to another point along a great circle (haversine).
    pub(super) fn distance(self, to: Point) -> f64 {
        let v = ((to.longitude.to_radians() - self.longitude.to_radians()) / 2.0).sin();
        if v == 0.0 {
            return latitude_distance(self.latitude, to.latitude);
        }
        let (from, to) = (self.latitude.to_radians(), to.latitude.to_radians());
        let u = ((to - from) / 2.0).sin();
        let a = u * u + from.cos() * to.cos() * v * v;
        2.0 * EARTH_RADIUS * a.sqrt().asin()
    }

    /// The geohash as it is written elsewhere: eleven letters, latitudes reaching from pole to pole.
    pub(super) fn geohash(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = bits_of(self, limits::LONGITUDE, (-90.0, 90.0), STEPS_MAX);
        // 52 bits are ten letters and two bits; the last letter has never been more than a filler.
        let mut text = [LETTERS[0]; 11];
        for (place, letter) in text[..10].iter_mut().enumerate() {
            *letter = LETTERS[(bits >> (52 - (place + 1) * 5)) as usize & 31];
        }
        text
    }
}

/// Metres between two parallels.
pub(super) fn latitude_distance(one: f64, other: f64) -> f64 {
    EARTH_RADIUS * (other.to_radians() - one.to_radians()).abs()
}

/// A rectangle, in degrees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) longitude: (f64, f64),
    pub(super) latitude: (f64, f64),
}

/// A cell of the grid that has 2^steps columns and rows. The bits of row and column take turns, the column's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    bits: u64,
    steps: u32,
}

const COLUMNS: u64 = 0xaaaa_aaaa_aaaa_aaaa;
const ROWS: u64 = 0x5555_5555_5555_5555;

impl Cell {
    /// The cell that holds a point.
    pub(super) fn at(point: Point, steps: u32) -> Cell {
        Cell { bits: bits_of(point, limits::LONGITUDE, limits::LATITUDE, steps), steps }
    }

    /// How often the map was halved in each direction.
    pub(super) fn steps(self) -> u32 {
        self.steps
    }

    /// What it covers.
    pub(super) fn area(self) -> Area {
        let side = |number: u32, (min, max): (f64, f64)| {
            let cells = (1u64 << self.steps) as f64;
            let edge = |number: f64| min + (number / cells) * (max - min);
            // The number beyond the last one wraps, as it does in 32 bits.
            (edge(f64::from(number)), edge(f64::from(number.wrapping_add(1))))
        };
        Area {
            longitude: side(gathered(self.bits >> 1), limits::LONGITUDE),
            latitude: side(gathered(self.bits), limits::LATITUDE),
        }
    }

    /// The lowest score in it.
    pub(super) fn first_score(self) -> u64 {
        self.bits << (2 * (STEPS_MAX - self.steps))
    }

    /// The lowest score beyond it.
    pub(super) fn end_score(self) -> u64 {
        Cell { bits: self.bits.wrapping_add(1), ..self }.first_score()
    }

    /// The cell some columns to the east and rows to the north, of which either is -1, 0 or 1; the map wraps around.
    pub(super) fn neighbour(self, east: i32, north: i32) -> Cell {
        let all = u64::MAX >> (64 - 2 * self.steps);
        let moved = |bits: u64, own: u64, by: i32| {
            // With the other direction's bits set, a carry passes them; without, a borrow does.
            let (other, within) = (all & !own, all & own);
            match by {
                1 => ((bits & within) | other).wrapping_add(1) & within,
                -1 => (bits & within).wrapping_sub(within & within.wrapping_neg()) & within,
                // Beyond the edge of the map, on which a point may lie, it stays there.
                _ => bits & own,
            }
        };
        Cell { bits: moved(self.bits, COLUMNS, east) | moved(self.bits, ROWS, north), ..self }
    }
}

fn bits_of(point: Point, longitude: (f64, f64), latitude: (f64, f64), steps: u32) -> u64 {
    let number = |degrees: f64, (min, max): (f64, f64)| {
        ((degrees - min) / (max - min) * (1u64 << steps) as f64) as u32
    };
    spread(number(point.latitude, latitude)) | spread(number(point.longitude, longitude)) << 1
}

/// Bits of a number with room for another's between them.
fn spread(number: u32) -> u64 {
    (0..32).fold(0, |bits, i| bits | u64::from(number >> i & 1) << (2 * i))
}

/// Every second bit.
fn gathered(bits: u64) -> u32 {
    (0..32).fold(0, |number, i| number | ((bits >> (2 * i) & 1) as u32) << i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_where_they_should_be() {
        for steps in [1, 2, 5, 26] {
            for (longitude, latitude) in [(0.1, 0.1), (-179.9, 84.9), (179.9, -84.9), (13.4, 52.5)] {
                let cell = Cell::at(Point { longitude, latitude }, steps);
                let count = 1u64 << steps;
                let place = |cell: Cell| (gathered(cell.bits >> 1), gathered(cell.bits));
                let (column, row) = place(cell);
                for (east, north) in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)] {
                    let moved = |from: u32, by: i32| {
                        (i64::from(from) + i64::from(by)).rem_euclid(count as i64) as u32
                    };
                    let expected = (moved(column, east), moved(row, north));
                    assert_eq!(place(cell.neighbour(east, north)), expected, "{steps} {east} {north}");
                }
            }
        }
    }

    #[test]
    fn a_point_comes_back_nearly() {
        for (longitude, latitude) in [(0.0, 0.0), (-180.0, -85.05), (179.999, 85.0), (13.361389, 38.115556)] {
            let point = Point { longitude, latitude };
            let back = Point::of_score(point.score());
            assert!(point.distance(back) < 0.6, "{point:?} {back:?}");
        }
        let palermo = Point { longitude: 13.361389, latitude: 38.115556 };
        assert_eq!(palermo.score(), 3_479_099_956_230_698.0);
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
    }

    #[test]
    fn any_score_is_some_point() {
        for score in [f64::NEG_INFINITY, -1.0, 0.5, 1e15, 1e300, f64::INFINITY] {
            assert!(Point::of_score(score).is_on_map(), "{score}");
        }
    }
}
