//! What is searched: a circle or a box, and the cells that cover it.

use super::cell::{Cell, EARTH_RADIUS, Point, STEPS_MAX, latitude_distance};
use super::limits;

/// Half the width of the map in Web Mercator, in metres.
const MERCATOR_MAX: f64 = 20_037_726.37;

/// A figure around a point, in metres.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// All points that are not farther away.
    Circle { radius: f64 },
    /// All points that are not farther to the side, nor up and down, than half of these.
    Rectangle { width: f64, height: f64 },
}

impl Shape {
    /// The distance of a point from the centre, if it lies within.
    pub(super) fn distance(self, centre: Point, point: Point) -> Option<f64> {
        match self {
            Shape::Circle { radius } => Some(centre.distance(point)).filter(|distance| *distance <= radius),
            Shape::Rectangle { width, height } => {
                if latitude_distance(point.latitude, centre.latitude) > height / 2.0 {
                    return None;
                }
                let beside = Point { longitude: centre.longitude, latitude: point.latitude };
                if point.distance(beside) > width / 2.0 {
                    return None;
                }
                Some(centre.distance(point))
            }
        }
    }

    /// Half of what it measures across and upright.
    fn halves(self) -> (f64, f64) {
        match self {
            Shape::Circle { radius } => (radius, radius),
            Shape::Rectangle { width, height } => (width / 2.0, height / 2.0),
        }
    }

    /// From the centre to where it ends.
    fn reach(self) -> f64 {
        match self {
            Shape::Circle { radius } => radius,
            Shape::Rectangle { width, height } => ((width / 2.0).powi(2) + (height / 2.0).powi(2)).sqrt(),
        }
    }

    /// Cells that cover it: the centre's and those around it that are of use, in the order in which Redis visits them,
    /// as results without an order show.
    pub(super) fn cells(self, centre: Point) -> Vec<Cell> {
        let (half_width, half_height) = self.halves();
        let latitude_delta = degrees(half_height / EARTH_RADIUS);
        let longitude_delta =
            |latitude: f64| degrees(half_width / EARTH_RADIUS / latitude.to_radians().cos());
        // The widest parallel of a figure is the one nearest to the pole.
        let longitude_delta = match centre.latitude < 0.0 {
            true => longitude_delta(centre.latitude - latitude_delta),
            false => longitude_delta(centre.latitude + latitude_delta),
        };
        let (west, east) = (centre.longitude - longitude_delta, centre.longitude + longitude_delta);
        let (south, north) = (centre.latitude - latitude_delta, centre.latitude + latitude_delta);

        let mut cell = Cell::at(centre, steps(self.reach(), centre.latitude));
        let too_small = cell.neighbour(0, 1).area().latitude.1 < north
            || cell.neighbour(0, -1).area().latitude.0 > south
            || cell.neighbour(1, 0).area().longitude.1 < east
            || cell.neighbour(-1, 0).area().longitude.0 > west;
        if too_small && cell.steps() > 1 {
            cell = Cell::at(centre, cell.steps() - 1);
        }
        let area = cell.area();
        // On a coarse grid neighbours are on the other side of the map as well, so all are visited.
        let fine = cell.steps() >= 2;
        let useless = |to_east: i32, to_north: i32| {
            to_north < 0 && area.latitude.0 < south
                || to_north > 0 && area.latitude.1 > north
                || to_east < 0 && area.longitude.0 < west
                || to_east > 0 && area.longitude.1 > east
        };
        let around = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let around = around.into_iter().filter(|(to_east, to_north)| !(fine && useless(*to_east, *to_north)));
        let mut cells = vec![cell];
        for (to_east, to_north) in around {
            let next = cell.neighbour(to_east, to_north);
            // Around the globe, the next may be the last again.
            if cells.len() == 1 || cells.last() != Some(&next) {
                cells.push(next);
            }
        }
        cells
    }
}

fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

/// How fine the grid may be so that nine cells cover a reach.
fn steps(mut reach: f64, latitude: f64) -> u32 {
    if reach == 0.0 {
        return STEPS_MAX;
    }
    let mut steps = 1i32;
    while reach < MERCATOR_MAX {
        reach *= 2.0;
        steps += 1;
    }
    steps -= 2;
    // Towards the poles a degree is less wide.
    steps -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    steps.clamp(1, STEPS_MAX as i32) as u32
}

const _: () = assert!(limits::LATITUDE.1 < 90.0, "no parallel on the map has no length");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;

    #[test]
    fn cells_cover_what_is_searched() {
        let mut random = Random::new(2);
        let mut between =
            |low: f64, high: f64| low + (random.word() >> 11) as f64 / (1u64 << 53) as f64 * (high - low);
        for round in 0..4000 {
            let centre = Point { longitude: between(-180.0, 180.0), latitude: between(-80.0, 80.0) };
            let size = 10f64.powf(between(1.0, 5.7));
            let shape = match round % 2 {
                0 => Shape::Circle { radius: size },
                _ => Shape::Rectangle { width: size * between(0.1, 2.0), height: size },
            };
            let cells = shape.cells(centre);
            for _ in 0..20 {
                let degrees = size / 80_000.0;
                let point = Point {
                    longitude: centre.longitude + between(-degrees, degrees),
                    latitude: centre.latitude + between(-degrees, degrees),
                };
                if !point.is_on_map() || shape.distance(centre, point).is_none() {
                    continue;
                }
                let score = point.score() as u64;
                let covered =
                    cells.iter().any(|cell| (cell.first_score()..cell.end_score()).contains(&score));
                assert!(covered, "{shape:?} {centre:?} {point:?}");
            }
        }
    }
}
