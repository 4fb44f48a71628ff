//! Pattern matching as KEYS, PSUBSCRIBE and ACL rules know it.

/// Whether `text` matches the glob `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    pattern == text
}
