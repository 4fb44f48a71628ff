//! `oom-score-adj`: what the kernel is told of how soon to end the process when the machine runs out of memory.

use std::fs;

use super::OomScore;
use crate::config::values::OomScores;

const PATH: &str = "/proc/self/oom_score_adj";

/// What CONFIG SET says if it cannot be told.
const FAILED: &str = "Failed to apply new oom_score_adj configuration, check server logs.";

/// The score that the process had before it was first told another, while it has another.
#[derive(Default)]
pub(super) struct Score {
    base: Option<i32>,
}

impl Score {
    /// Tells the kernel what the settings say of a primary or a replica. Nothing is told as long as they say nothing.
    pub(super) fn apply(
        &mut self,
        wanted: OomScore,
        scores: &OomScores,
        is_replica: bool,
    ) -> Result<(), String> {
        if wanted == OomScore::No && self.base.is_none() {
            return Ok(());
        }
        let base = match self.base {
            Some(base) => base,
            None => read()?,
        };
        let own = scores.0[usize::from(is_replica)];
        let score = match wanted {
            OomScore::No => base,
            OomScore::Yes | OomScore::Relative => base + own,
            OomScore::Absolute => own,
        };
        let score = score.clamp(-1000, 1000);
        fs::write(PATH, score.to_string()).map_err(|error| {
            tracing::warn!("Unable to write oom_score_adj: {error}");
            FAILED.to_owned()
        })?;
        self.base = (wanted != OomScore::No).then_some(base);
        Ok(())
    }
}

fn read() -> Result<i32, String> {
    let read = fs::read_to_string(PATH).map_err(|error| error.to_string());
    read.and_then(|text| text.trim().parse().map_err(|_| format!("'{}' is no number", text.trim()))).map_err(
        |error| {
            tracing::warn!("Unable to read oom_score_adj: {error}");
            FAILED.to_owned()
        },
    )
}
