//! Places on earth: sorted sets whose scores are geohashes of 52 bits.

mod cell;
mod places;
mod search;
mod shape;

use mortise_sdk::args::parse_float;
use mortise_sdk::declare::Spec;
use mortise_sdk::error::{self, Error, Result};

pub(super) use places::COMMANDS as PLACES;
pub(super) use search::COMMANDS as SEARCH;

use crate::engine::args::Args;
use crate::resp::output::Output;
use cell::Point;

const GEO: Spec = Spec::group("geo");

/// The edges of the map, in degrees.
mod limits {
    pub(super) const LONGITUDE: (f64, f64) = (-180.0, 180.0);
    /// What Web Mercator (EPSG:900913) shows.
    pub(super) const LATITUDE: (f64, f64) = (-85.051_128_78, 85.051_128_78);
}

/// The point that two arguments name.
fn point(args: Args<'_>, index: usize) -> Result<Point> {
    let degrees = |index: usize| parse_float(args.at(index)).ok_or(error::NOT_FLOAT);
    let point = Point { longitude: degrees(index)?, latitude: degrees(index + 1)? };
    if point.is_on_map() {
        return Ok(point);
    }
    let Point { longitude, latitude } = point;
    Err(Error::text(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// How many metres a unit has.
fn unit(word: &[u8]) -> Result<f64> {
    match word.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Error::new("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

/// A distance with four decimals.
fn write_distance(out: &mut Output, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even() as u64;
    out.bulk(format!("{}.{:04}", scaled / 10_000, scaled % 10_000).as_bytes());
}

/// Longitude and latitude, with as many decimals as they have of seventeen.
fn write_point(out: &mut Output, point: Point) {
    out.array(2);
    for degrees in [point.longitude, point.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        let text = if text == "-0" { "0" } else { text };
        if out.is_resp3() {
            out.raw(format!(",{text}\r\n").as_bytes());
        } else {
            out.bulk(text.as_bytes());
        }
    }
}
