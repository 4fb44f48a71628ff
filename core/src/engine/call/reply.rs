//! What commands answer with.

use crate::resp::output::Output;

/// What a call can answer with.
pub trait Reply {
    /// Writes it.
    fn write(self, out: &mut Output);
}

impl Reply for i64 {
    fn write(self, out: &mut Output) {
        out.integer(self);
    }
}

impl Reply for usize {
    fn write(self, out: &mut Output) {
        out.count(self);
    }
}

impl Reply for bool {
    /// As an integer: what commands older than RESP3 answer.
    fn write(self, out: &mut Output) {
        out.integer(i64::from(self));
    }
}

impl Reply for &[u8] {
    fn write(self, out: &mut Output) {
        out.bulk(self);
    }
}

impl Reply for &str {
    fn write(self, out: &mut Output) {
        out.bulk(self.as_bytes());
    }
}

impl Reply for String {
    fn write(self, out: &mut Output) {
        out.bulk(self.as_bytes());
    }
}

impl<T: Reply> Reply for Option<T> {
    fn write(self, out: &mut Output) {
        match self {
            Some(value) => value.write(out),
            None => out.null(),
        }
    }
}
