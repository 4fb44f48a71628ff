//! Configuration directives: one declaration each, from which parsing, CONFIG and redis.conf follow.

/// A directive that reads and writes `C`.
#[derive(Debug)]
pub struct Directive<C: 'static> {
    /// Its name in redis.conf.
    pub name: &'static str,
    /// Its value as CONFIG GET shows it.
    pub get: fn(&C) -> String,
}
