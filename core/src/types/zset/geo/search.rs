//! GEOSEARCH, GEOSEARCHSTORE, and the older GEORADIUS family.

use mortise_sdk::args as numbers;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, Deprecation, OW, RO, Spec, UPDATE, added, key};
use mortise_sdk::error::{self, Error, Result};

use super::cell::Point;
use super::shape::Shape;
use super::{GEO, point, unit, write_distance, write_point};
use crate::engine::args::Args;
use crate::engine::call::{Call, Options};
use crate::engine::edit::Limits;
use crate::features::Command;
use crate::resp::output::Output;
use crate::types::zset::results::store;
use crate::types::zset::value::{Built, Zset, ZsetRef};

/// This file's commands.
pub(in crate::types::zset) const COMMANDS: &[Command] =
    &[GEOSEARCH, GEOSEARCHSTORE, GEORADIUS, GEORADIUS_RO, GEORADIUSBYMEMBER, GEORADIUSBYMEMBER_RO];

/// What the commands of this file differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Search,
    SearchStore,
    /// GEORADIUS; true if it may store.
    Radius(bool),
    /// GEORADIUSBYMEMBER; true if it may store.
    RadiusByMember(bool),
}

impl Form {
    fn is_search(self) -> bool {
        matches!(self, Form::Search | Form::SearchStore)
    }

    fn may_store(self) -> bool {
        matches!(self, Form::Radius(true) | Form::RadiusByMember(true))
    }

    /// The argument that names the sorted set.
    fn source(self) -> usize {
        if self == Form::SearchStore { 2 } else { 1 }
    }

    /// The first argument that is an option.
    fn options(self) -> usize {
        match self {
            Form::Search => 2,
            Form::SearchStore => 3,
            Form::Radius(_) => 6,
            Form::RadiusByMember(_) => 5,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

/// What is asked.
#[derive(Default)]
struct Query {
    centre: Option<Point>,
    /// The centre is a member, or a place; without a key the former's is not known.
    from_member: bool,
    from_place: bool,
    /// The figure, and how many metres the unit has in which distances are shown.
    shape: Option<(Shape, f64)>,
    order: Option<Order>,
    /// At most so many; 0 for all.
    count: usize,
    /// Any will do, not only the nearest.
    any: bool,
    with_distance: bool,
    with_hash: bool,
    with_point: bool,
    /// Where the result goes: the argument that names the key.
    store_at: Option<usize>,
    stores_distance: bool,
}

/// A place that was found.
#[derive(Clone, Copy)]
struct Found<'a> {
    member: &'a [u8],
    score: f64,
    point: Point,
    distance: f64,
}

fn number(args: Args<'_>, index: usize, not_numeric: &'static str) -> Result<f64> {
    numbers::parse_float(args.at(index)).ok_or(Error::new(not_numeric))
}

/// A radius and its unit.
fn circle(args: Args<'_>, index: usize) -> Result<(Shape, f64)> {
    let radius = number(args, index, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(Error::new("ERR radius cannot be negative"));
    }
    let metres = unit(args.at(index + 1))?;
    Ok((Shape::Circle { radius: radius * metres }, metres))
}

/// Width, height and their unit.
fn rectangle(args: Args<'_>, index: usize) -> Result<(Shape, f64)> {
    let width = number(args, index, "ERR need numeric width")?;
    let height = number(args, index + 1, "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(Error::new("ERR height or width cannot be negative"));
    }
    let metres = unit(args.at(index + 2))?;
    Ok((Shape::Rectangle { width: width * metres, height: height * metres }, metres))
}

fn place_of(zset: ZsetRef<'_>, member: &[u8]) -> Result<Point> {
    let score = zset.score(member).ok_or(Error::new("ERR could not decode requested zset member"))?;
    Ok(Point::of_score(score))
}

impl Query {
    /// Reads the call. What it says of the sorted set's members is looked up in it, if it is there.
    fn parse(args: Args<'_>, form: Form, zset: Option<ZsetRef<'_>>) -> Result<Query> {
        let mut query = Query::default();
        match (form, zset) {
            (Form::Radius(_), _) => {
                query.centre = Some(point(args, 2)?);
                query.shape = Some(circle(args, 4)?);
            }
            (Form::RadiusByMember(_), Some(zset)) => {
                query.centre = Some(place_of(zset, args.at(2))?);
                query.shape = Some(circle(args, 3)?);
            }
            // Without the sorted set only the options decide what is answered.
            (Form::RadiusByMember(_), None) | (Form::Search, _) => {}
            (Form::SearchStore, _) => query.store_at = Some(1),
        }
        query.parse_options(args, form, zset)?;
        query.check(args, form)?;
        Ok(query)
    }

    fn parse_options(&mut self, args: Args<'_>, form: Form, zset: Option<ZsetRef<'_>>) -> Result {
        let mut options = Options::new(args, form.options());
        let (mut circles, mut boxes) = (false, false);
        while !options.is_empty() {
            let left = options.left() - 1;
            let value = options.position() + 1;
            let search = form.is_search();
            if options.takes("WITHDIST") {
                self.with_distance = true;
            } else if options.takes("WITHHASH") {
                self.with_hash = true;
            } else if options.takes("WITHCOORD") {
                self.with_point = true;
            } else if options.takes("ANY") {
                self.any = true;
            } else if options.takes("ASC") {
                self.order = Some(Order::Ascending);
            } else if options.takes("DESC") {
                self.order = Some(Order::Descending);
            } else if let Some(text) = options.takes_value("COUNT") {
                let count = numbers::parse_integer(text).ok_or(error::NOT_INTEGER)?;
                let count = usize::try_from(count).ok().filter(|count| *count > 0);
                self.count = count.ok_or(Error::new("ERR COUNT must be > 0"))?;
            } else if form.may_store() && options.takes_value("STORE").is_some() {
                (self.store_at, self.stores_distance) = (Some(value), false);
            } else if form.may_store() && options.takes_value("STOREDIST").is_some() {
                (self.store_at, self.stores_distance) = (Some(value), true);
            } else if form == Form::SearchStore && options.takes("STOREDIST") {
                self.stores_distance = true;
            } else if search && !self.from_place && options.takes_value("FROMMEMBER").is_some() {
                self.from_member = true;
                self.centre = zset.map(|zset| place_of(zset, args.at(value))).transpose()?;
            } else if search && !self.from_member && left >= 2 && options.takes("FROMLONLAT") {
                self.from_place = true;
                self.centre = Some(point(args, value)?);
                options.nth(1);
            } else if search && !boxes && left >= 2 && options.takes("BYRADIUS") {
                circles = true;
                self.shape = Some(circle(args, value)?);
                options.nth(1);
            } else if search && !circles && left >= 3 && options.takes("BYBOX") {
                boxes = true;
                self.shape = Some(rectangle(args, value)?);
                options.nth(2);
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(())
    }

    fn check(&self, args: Args<'_>, form: Form) -> Result {
        if self.store_at.is_some() && (self.with_distance || self.with_hash || self.with_point) {
            return Err(Error::new(match form {
                Form::SearchStore => {
                    "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
                }
                _ => {
                    "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
                }
            }));
        }
        if form.is_search() && !self.from_member && !self.from_place {
            return Err(Error::quoting(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}",
                &[args.at(0)],
            ));
        }
        if form.is_search() && self.shape.is_none() {
            return Err(Error::quoting(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {}",
                &[args.at(0)],
            ));
        }
        if self.any && self.count == 0 {
            return Err(Error::new("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// What lies within the figure, in the order that is asked for; distances in the unit.
    fn find<'a>(&self, zset: ZsetRef<'a>) -> Vec<Found<'a>> {
        let (Some(centre), Some((shape, metres))) = (self.centre, self.shape) else { return Vec::new() };
        let enough = if self.any { self.count } else { usize::MAX };
        let mut found = Vec::new();
        for cell in shape.cells(centre) {
            let (first, end) = (cell.first_score() as f64, cell.end_score() as f64);
            let from = zset.partition(|score, _| score < first);
            for (score, member) in zset.from_rank(from, false).take_while(|(score, _)| *score < end) {
                if found.len() >= enough {
                    break;
                }
                let point = Point::of_score(score);
                if let Some(distance) = shape.distance(centre, point) {
                    found.push(Found { member, score, point, distance });
                }
            }
        }
        let order = match self.order {
            // Fewer than all should be the nearest.
            None if self.count > 0 && !self.any => Some(Order::Ascending),
            order => order,
        };
        let by_distance = |one: &Found<'_>, other: &Found<'_>| one.distance.total_cmp(&other.distance);
        match order {
            Some(Order::Ascending) => found.sort_by(by_distance),
            Some(Order::Descending) => found.sort_by(|one, other| by_distance(other, one)),
            None => {}
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        found.iter_mut().for_each(|found| found.distance /= metres);
        found
    }

    fn write(&self, found: &[Found<'_>], out: &mut Output) {
        let parts = [self.with_distance, self.with_hash, self.with_point];
        let parts = parts.into_iter().filter(|part| *part).count();
        out.array(found.len());
        for place in found {
            if parts > 0 {
                out.array(parts + 1);
            }
            out.bulk(place.member);
            if self.with_distance {
                write_distance(out, place.distance);
            }
            if self.with_hash {
                out.integer(place.score as i64);
            }
            if self.with_point {
                write_point(out, place.point);
            }
        }
    }

    /// The result as a sorted set.
    fn built(&self, found: &[Found<'_>], limits: Limits) -> Built {
        let score = |place: &Found<'_>| if self.stores_distance { place.distance } else { place.score };
        let mut members: Vec<(f64, &[u8])> = found.iter().map(|place| (score(place), place.member)).collect();
        members.sort_by(|one, other| one.0.total_cmp(&other.0).then_with(|| one.1.cmp(other.1)));
        Built::from_ordered(limits, members.len(), || members.iter().copied())
    }
}

fn search(call: &mut Call<'_>, form: Form) -> Result {
    let (args, limits) = (call.args(), call.limits());
    // The look-up comes first, as its errors do.
    let (zset, out) = call.read::<Zset>(call.key(form.source()))?;
    let query = Query::parse(args, form, zset)?;
    let found = zset.map(|zset| query.find(zset)).unwrap_or_default();
    let Some(target) = query.store_at else {
        query.write(&found, out);
        return Ok(());
    };
    let built = query.built(&found, limits);
    let event = if form.is_search() { "geosearchstore" } else { "georadiusstore" };
    store(call, target, Some(built), event)
}

/// The key that GEORADIUS will store to if the last that asks for it is this word. Of several only the last counts.
fn target<'a>(argc: usize, arg: &dyn Fn(usize) -> &'a [u8], from: usize, word: &[u8]) -> Option<usize> {
    let is = |index: usize, word: &[u8]| arg(index).eq_ignore_ascii_case(word);
    let (mut index, mut found) = (from, None);
    while index + 1 < argc {
        let stores = is(index, b"store") || is(index, b"storedist");
        if stores {
            found = Some((index + 1, is(index, word)));
        }
        index += if stores || is(index, b"count") { 2 } else { 1 };
    }
    found.filter(|(_, same)| *same).map(|(index, _)| index)
}

const GEOSEARCH: Command = Spec {
    usage: "GEOSEARCH key from=<<FROMMEMBER member> | <FROMLONLAT longitude:double latitude:double>> \
            by=<circle=<<BYRADIUS radius:double> unit=<M | KM | FT | MI>> | \
            box=<<BYBOX width:double> height:double unit=<M | KM | FT | MI>>> \
            [order=<ASC | DESC>] [count=<<COUNT count:int> [ANY]>] [WITHCOORD] [WITHDIST] [WITHHASH]",
    about: "Returns places within a circle or a box.",
    since: "6.2.0",
    cost: "O(N+log(M)), N being the members around and M those within",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("7.0.0", "Units in capitals.")],
    ..GEO
}
.runs(|call| search(call, Form::Search));

const GEOSEARCHSTORE: Command = Spec {
    usage: "GEOSEARCHSTORE destination source from=<<FROMMEMBER member> | \
            <FROMLONLAT longitude:double latitude:double>> \
            by=<circle=<<BYRADIUS radius:double> unit=<M | KM | FT | MI>> | \
            box=<<BYBOX width:double> height:double unit=<M | KM | FT | MI>>> \
            [order=<ASC | DESC>] [count=<<COUNT count:int> [ANY]>] [STOREDIST]",
    about: "Stores places within a circle or a box, with their geohashes or distances as scores.",
    since: "6.2.0",
    cost: "O(N+log(M)), N being the members around and M those within",
    flags: &[WRITE, DENYOOM],
    keys: &[key("destination", &[OW, UPDATE]), key("source", &[RO, ACCESS])],
    history: &[("7.0.0", "Units in capitals.")],
    ..GEO
}
.runs(|call| search(call, Form::SearchStore));

const GEORADIUS: Command = Spec {
    usage: "GEORADIUS key longitude:double latitude:double radius:double unit=<M | KM | FT | MI> \
            [WITHCOORD] [WITHDIST] [WITHHASH] [count=<<COUNT count:int> [ANY]>] [order=<ASC | DESC>] \
            [STORE storekey] [STOREDIST storedistkey]",
    about: "Returns or stores places within a circle around a point.",
    since: "3.2.0",
    cost: "O(N+log(M)), N being the members around and M those within",
    flags: &[WRITE, DENYOOM],
    keys: &[
        key("key", &[RO, ACCESS]),
        key("storekey", &[OW, UPDATE]).located(|argc, arg| target(argc, arg, 6, b"store")),
        key("storedistkey", &[OW, UPDATE]).located(|argc, arg| target(argc, arg, 6, b"storedist")),
    ],
    history: &[("6.2.0", "Option `ANY` of `COUNT`."), ("7.0.0", "Units in capitals.")],
    ages: &[added("ANY", "6.2.0")],
    deprecated: Some(Deprecation {
        since: "6.2.0",
        replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
    }),
    ..GEO
}
.runs(|call| search(call, Form::Radius(true)));

const GEORADIUS_RO: Command = Spec {
    usage: "GEORADIUS_RO key longitude:double latitude:double radius:double unit=<M | KM | FT | MI> \
            [WITHCOORD] [WITHDIST] [WITHHASH] [count=<<COUNT count:int> [ANY]>] [order=<ASC | DESC>]",
    about: "Returns places within a circle around a point.",
    since: "3.2.10",
    cost: "O(N+log(M)), N being the members around and M those within",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("6.2.0", "Option `ANY` of `COUNT`.")],
    ages: &[added("ANY", "6.2.0")],
    deprecated: Some(Deprecation { since: "6.2.0", replaced_by: "`GEOSEARCH` with the `BYRADIUS` argument" }),
    ..GEO
}
.runs(|call| search(call, Form::Radius(false)));

const GEORADIUSBYMEMBER: Command = Spec {
    usage: "GEORADIUSBYMEMBER key member radius:double unit=<M | KM | FT | MI> \
            [WITHCOORD] [WITHDIST] [WITHHASH] [count=<<COUNT count:int> [ANY]>] [order=<ASC | DESC>] \
            [STORE storekey] [STOREDIST storedistkey]",
    about: "Returns or stores places within a circle around another place.",
    since: "3.2.0",
    cost: "O(N+log(M)), N being the members around and M those within",
    flags: &[WRITE, DENYOOM],
    keys: &[
        key("key", &[RO, ACCESS]),
        key("storekey", &[OW, UPDATE]).located(|argc, arg| target(argc, arg, 5, b"store")),
        key("storedistkey", &[OW, UPDATE]).located(|argc, arg| target(argc, arg, 5, b"storedist")),
    ],
    history: &[("7.0.0", "Units in capitals.")],
    deprecated: Some(Deprecation {
        since: "6.2.0",
        replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
    }),
    ..GEO
}
.runs(|call| search(call, Form::RadiusByMember(true)));

const GEORADIUSBYMEMBER_RO: Command = Spec {
    usage: "GEORADIUSBYMEMBER_RO key member radius:double unit=<M | KM | FT | MI> \
            [WITHCOORD] [WITHDIST] [WITHHASH] [count=<<COUNT count:int> [ANY]>] [order=<ASC | DESC>]",
    about: "Returns places within a circle around another place.",
    since: "3.2.10",
    cost: "O(N+log(M)), N being the members around and M those within",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    deprecated: Some(Deprecation {
        since: "6.2.0",
        replaced_by: "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
    }),
    ..GEO
}
.runs(|call| search(call, Form::RadiusByMember(false)));
