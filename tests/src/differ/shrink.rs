//! The few requests of a sequence that it takes to see a difference.

use std::io;

use super::Request;
use super::pair::{Difference, Pair, line};

/// Takes away what is not needed, in ever smaller parts; the two still differ afterwards, if perhaps otherwise.
pub fn shrink(
    pair: &mut Pair,
    mut requests: Vec<Request>,
    mut found: Difference,
) -> io::Result<(Vec<Request>, Difference)> {
    requests.truncate(found.at + 1);
    let mut len = requests.len().div_ceil(2);
    while len > 0 {
        let mut at = 0;
        let mut fewer = false;
        while at < requests.len() {
            let mut tried = requests.clone();
            tried.drain(at..(at + len).min(requests.len()));
            match pair.run(&tried)?.0 {
                Some(difference) => {
                    tried.truncate(difference.at + 1);
                    (requests, found, fewer) = (tried, difference, true);
                }
                None => at += len,
            }
        }
        len = if len == 1 && fewer { 1 } else { len / 2 };
    }
    Ok((requests, found))
}

/// A script to be kept; what it is to say is filled in by `UPDATE=1 REFERENCE=redis-server`.
pub fn script(requests: &[Request], found: &Difference) -> String {
    let mut text = String::from("# NAME.test — what it is about\n\n");
    let last = (found.at >= requests.len()).then_some(&found.request);
    for request in requests.iter().chain(last) {
        text.push_str(&format!("> {}\n", line(request)));
    }
    text
}
