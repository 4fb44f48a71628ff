//! ZRANGE and its kin: one road for ranges of ranks, scores and names, upwards and downwards, answered or stored.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, Deprecation, OW, RO, Spec, UPDATE, added, key};
use mortise_sdk::{Error, Result, args, error};

use super::SORTED_SET;
use super::range::{By, Range};
use super::results::{answer, store};
use super::value::{Built, Zset, ZsetRef};
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[ZRANGE, ZREVRANGE, ZRANGEBYSCORE, ZREVRANGEBYSCORE, ZRANGEBYLEX, ZREVRANGEBYLEX, ZRANGESTORE];

/// What a range command asks for.
struct Query<'a> {
    range: Range<'a>,
    reverse: bool,
    with_scores: bool,
    /// How many members of the range are passed over; none is left if it is negative.
    offset: i64,
    /// How many are wanted at most; all if it is negative.
    limit: i64,
}

impl<'a> Query<'a> {
    /// The ends of the range stand at `ends`, the options behind. What the command's name says cannot be said again.
    fn parse(
        call: &Call<'a>,
        ends: usize,
        by: Option<By>,
        reverse: Option<bool>,
        stores: bool,
    ) -> Result<Query<'a>> {
        let (mut chosen_by, mut chosen_reverse) = (by, reverse);
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut options = call.options(ends + 2);
        while !options.is_empty() {
            if !stores && options.takes("WITHSCORES") {
                with_scores = true;
            } else if options.left() > 2 && options.takes("LIMIT") {
                offset = integer(options.required()?)?;
                limit = integer(options.required()?)?;
            } else if chosen_reverse.is_none() && options.takes("REV") {
                chosen_reverse = Some(true);
            } else if chosen_by.is_none() && options.takes("BYLEX") {
                chosen_by = Some(By::Name);
            } else if chosen_by.is_none() && options.takes("BYSCORE") {
                chosen_by = Some(By::Score);
            } else {
                return Err(error::SYNTAX);
            }
        }
        let (by, reverse) = (chosen_by.unwrap_or(By::Rank), chosen_reverse.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(Error::new(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Name {
            return Err(Error::new("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let (low, high) = if reverse && by != By::Rank { (ends + 1, ends) } else { (ends, ends + 1) };
        let range = Range::parse(by, call.arg(low), call.arg(high))?;
        Ok(Query { range, reverse, with_scores, offset, limit })
    }

    /// The ranks of what is asked for.
    fn ranks(&self, zset: ZsetRef<'_>) -> std::ops::Range<usize> {
        let ranks = self.range.ranks(zset, self.reverse);
        if let Range::Ranks(..) = self.range {
            return ranks;
        }
        let skipped = usize::try_from(self.offset).unwrap_or(usize::MAX).min(ranks.len());
        let left = ranks.len() - skipped;
        let len = usize::try_from(self.limit).map_or(left, |limit| limit.min(left));
        if self.reverse {
            let end = ranks.end - skipped;
            end - len..end
        } else {
            let start = ranks.start + skipped;
            start..start + len
        }
    }
}

fn integer(text: &[u8]) -> Result<i64> {
    args::parse_integer(text).ok_or(error::NOT_INTEGER)
}

fn range(call: &mut Call<'_>, by: Option<By>, reverse: Option<bool>) -> Result {
    let query = Query::parse(call, 2, by, reverse, false)?;
    let (zset, out) = call.read::<Zset>(call.key(1))?;
    let Some(zset) = zset else {
        out.array(0);
        return Ok(());
    };
    let ranks = query.ranks(zset);
    let len = ranks.len();
    answer(out, len, zset.slice(ranks, query.reverse), query.with_scores);
    Ok(())
}

const ZRANGE: Command = Spec {
    usage: "ZRANGE key start stop [sortby=<BYSCORE | BYLEX>] [REV] \
            [LIMIT offset:int count:int] [WITHSCORES]",
    about: "Returns the members in a range of ranks, scores or names.",
    since: "1.2.0",
    cost: "O(log(N)+M), N being the members and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("6.2.0", "Options `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")],
    ages: &[added("sortby", "6.2.0"), added("REV", "6.2.0"), added("LIMIT", "6.2.0")],
    ..SORTED_SET
}
.runs(zrange);

fn zrange(call: &mut Call<'_>) -> Result {
    range(call, None, None)
}

const ZREVRANGE: Command = Spec {
    usage: "ZREVRANGE key start:int stop:int [WITHSCORES]",
    about: "Returns the members in a range of ranks, counted from the highest score.",
    since: "1.2.0",
    cost: "O(log(N)+M), N being the members and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    deprecated: Some(Deprecation { since: "6.2.0", replaced_by: "`ZRANGE` with the `REV` argument" }),
    ..SORTED_SET
}
.runs(zrevrange);

fn zrevrange(call: &mut Call<'_>) -> Result {
    range(call, Some(By::Rank), Some(true))
}

const ZRANGEBYSCORE: Command = Spec {
    usage: "ZRANGEBYSCORE key min:double max:double [WITHSCORES] [LIMIT offset:int count:int]",
    about: "Returns the members in a range of scores.",
    since: "1.0.5",
    cost: "O(log(N)+M), N being the members and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("2.0.0", "Option `WITHSCORES`.")],
    deprecated: Some(Deprecation { since: "6.2.0", replaced_by: "`ZRANGE` with the `BYSCORE` argument" }),
    ages: &[added("WITHSCORES", "2.0.0")],
    ..SORTED_SET
}
.runs(zrangebyscore);

fn zrangebyscore(call: &mut Call<'_>) -> Result {
    range(call, Some(By::Score), Some(false))
}

const ZREVRANGEBYSCORE: Command = Spec {
    usage: "ZREVRANGEBYSCORE key max:double min:double [WITHSCORES] [LIMIT offset:int count:int]",
    about: "Returns the members in a range of scores, from the highest to the lowest.",
    since: "2.2.0",
    cost: "O(log(N)+M), N being the members and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    history: &[("2.1.6", "`min` and `max` may be excluded.")],
    deprecated: Some(Deprecation {
        since: "6.2.0",
        replaced_by: "`ZRANGE` with the `REV` and `BYSCORE` arguments",
    }),
    ..SORTED_SET
}
.runs(zrevrangebyscore);

fn zrevrangebyscore(call: &mut Call<'_>) -> Result {
    range(call, Some(By::Score), Some(true))
}

const ZRANGEBYLEX: Command = Spec {
    usage: "ZRANGEBYLEX key min max [LIMIT offset:int count:int]",
    about: "Returns the members in a range of names, all scores being the same.",
    since: "2.8.9",
    cost: "O(log(N)+M), N being the members and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    deprecated: Some(Deprecation { since: "6.2.0", replaced_by: "`ZRANGE` with the `BYLEX` argument" }),
    ..SORTED_SET
}
.runs(zrangebylex);

fn zrangebylex(call: &mut Call<'_>) -> Result {
    range(call, Some(By::Name), Some(false))
}

const ZREVRANGEBYLEX: Command = Spec {
    usage: "ZREVRANGEBYLEX key max min [LIMIT offset:int count:int]",
    about: "Returns the members in a range of names from the last to the first, all scores being the same.",
    since: "2.8.9",
    cost: "O(log(N)+M), N being the members and M those returned",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    deprecated: Some(Deprecation {
        since: "6.2.0",
        replaced_by: "`ZRANGE` with the `REV` and `BYLEX` arguments",
    }),
    ..SORTED_SET
}
.runs(zrevrangebylex);

fn zrevrangebylex(call: &mut Call<'_>) -> Result {
    range(call, Some(By::Name), Some(true))
}

const ZRANGESTORE: Command = Spec {
    usage: "ZRANGESTORE dst src min max [sortby=<BYSCORE | BYLEX>] [REV] [LIMIT offset:int count:int]",
    about: "Stores the members in a range of ranks, scores or names.",
    since: "6.2.0",
    cost: "O(log(N)+M), N being the members and M those stored",
    flags: &[WRITE, DENYOOM],
    keys: &[key("dst", &[OW, UPDATE]), key("src", &[RO, ACCESS])],
    ..SORTED_SET
}
.runs(zrangestore);

fn zrangestore(call: &mut Call<'_>) -> Result {
    let query = Query::parse(call, 3, None, None, true)?;
    let limits = call.limits();
    let (zset, _) = call.read::<Zset>(call.key(2))?;
    let built = zset.map(|zset| {
        let ranks = query.ranks(zset);
        Built::from_ordered(limits, ranks.len(), || zset.slice(ranks.clone(), false))
    });
    store(call, 1, built, "zrangestore")
}
