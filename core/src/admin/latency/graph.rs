//! A graph in letters: how long the latest events of a kind took, and how long ago they were.

use super::events::{Event, Seen};

const COLUMNS: usize = 80;
const ROWS: usize = 4;
/// What fills a place by a third, by two thirds and as a whole.
const FILLS: [char; 3] = ['_', 'o', '#'];
/// What stands below a place that is reached.
const BELOW: char = '|';

/// The graph of a kind of event.
pub(super) fn draw(event: Event, seen: &Seen, now_s: i64) -> String {
    let durations = || seen.samples.iter().map(|sample| sample.ms);
    let (low, high) = (durations().min().unwrap_or(0), durations().max().unwrap_or(0));
    let mut text = format!(
        "{} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        event.name(),
        seen.max_ms,
        "-".repeat(COLUMNS),
    );
    let samples: Vec<_> = seen.samples.iter().collect();
    for (index, part) in samples.chunks(COLUMNS).enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let heights: Vec<usize> = part.iter().map(|sample| height(sample.ms, low, high)).collect();
        for row in 0..ROWS {
            text.extend(heights.iter().map(|height| place(*height, row)));
            text.push('\n');
        }
        let ages: Vec<String> = part.iter().map(|sample| age(now_s - sample.at_s)).collect();
        // The ages stand below, from top to bottom.
        text.push_str(&" ".repeat(part.len()));
        text.push('\n');
        for row in 0..ages.iter().map(String::len).max().unwrap_or(0) {
            text.extend(ages.iter().map(|age| age.chars().nth(row).unwrap_or(' ')));
            text.push('\n');
        }
    }
    text
}

/// In which of all steps a duration ends.
fn height(ms: u64, low: u64, high: u64) -> usize {
    const STEPS: usize = FILLS.len() * ROWS;
    let range = (high - low).max(1) as f64;
    (((ms - low) as f64 * STEPS as f64 / range) as usize).min(STEPS - 1)
}

/// What stands in a row, counted from above, over a duration.
fn place(height: usize, row: usize) -> char {
    let floor = (ROWS - row - 1) * FILLS.len();
    match height.checked_sub(floor) {
        None => ' ',
        Some(step) => FILLS.get(step).copied().unwrap_or(BELOW),
    }
}

fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::events::Sample;
    use super::*;

    #[test]
    fn columns_grow_with_durations() {
        let samples = [(0, 100), (40, 130), (3541, 160), (7130, 220)];
        let samples = samples.map(|(at_s, ms)| Sample { at_s, ms }).into();
        let graph = draw(Event::Command, &Seen { samples, max_ms: 300 }, 7200);
        let lines: Vec<&str> = graph.lines().collect();
        assert_eq!(lines[0], "command - high 220 ms, low 100 ms (all time high 300 ms)");
        assert_eq!(lines[1], "-".repeat(80));
        assert_eq!(lines[2..], ["   #", "  _|", " _||", "_|||", "    ", "2111", "hhhm"]);
    }

    #[test]
    fn many_samples_take_several_lines() {
        let samples = (0..90).map(|at_s| Sample { at_s, ms: 5 }).collect();
        let graph = draw(Event::Command, &Seen { samples, max_ms: 5 }, 95);
        assert!(graph.contains(&format!("{}\n", "_".repeat(80))), "{graph}");
        assert!(graph.contains(&format!("\n{}\n", "_".repeat(10))), "{graph}");
    }
}
