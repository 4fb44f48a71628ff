//! Pattern matching as KEYS, PSUBSCRIBE and ACL rules know it.
//!
//! `*` any run of bytes, `?` any byte, `[a-z]` a class, `[^a-z]` all bytes outside it, `\` takes the next byte as it
//! is. Behaviour is that of Redis in its odd corners too: an unterminated class ends with the pattern, the ends of a
//! range may stand in either order, a `\` at the very end means itself, and an empty text is matched by the empty
//! pattern alone (not by `*`).
//!
//! Every element but `*` consumes exactly one byte. So when an attempt fails, only the last `*` need take a byte
//! more: there is no recursion, and the time is bounded by the product of both lengths whatever the pattern.

/// Whether `text` matches the glob `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run::<false>(pattern, text)
}

/// Whether `text` matches the glob `pattern`, upper and lower case of ASCII letters being the same.
pub fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    run::<true>(pattern, text)
}

fn run<const NOCASE: bool>(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // After the last `*` seen: the rest of the pattern, and where in the text that rest was last tried.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            star = Some((p, t));
            continue;
        }
        match one::<NOCASE>(&pattern[p..], text[t]) {
            Some(used) => {
                p += used;
                t += 1;
            }
            None => match &mut star {
                Some((rest, tried)) => {
                    *tried += 1;
                    (p, t) = (*rest, *tried);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Matches one byte against the element that `pattern` begins with (which is no `*`); the element's length if it fits.
#[inline]
fn one<const NOCASE: bool>(pattern: &[u8], byte: u8) -> Option<usize> {
    let (wanted, used) = match pattern {
        [] => return None,
        [b'?', ..] => return Some(1),
        [b'[', ..] => return class::<NOCASE>(pattern, byte),
        [b'\\', escaped, ..] => (*escaped, 2),
        [plain, ..] => (*plain, 1),
    };
    same::<NOCASE>(wanted, byte).then_some(used)
}

#[inline]
fn same<const NOCASE: bool>(a: u8, b: u8) -> bool {
    if NOCASE { a.eq_ignore_ascii_case(&b) } else { a == b }
}

/// Matches one byte against the class that `pattern` begins with; the class's length if it fits.
fn class<const NOCASE: bool>(pattern: &[u8], byte: u8) -> Option<usize> {
    let mut p = 1;
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    loop {
        match &pattern[p..] {
            // Unterminated: the end of the pattern closes the class.
            [] => break,
            // An escaped member is compared as it is, even where case is ignored.
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                p += 2;
            }
            [b']', ..] => {
                p += 1;
                break;
            }
            [from, b'-', to, ..] => {
                found |= in_range::<NOCASE>(*from, *to, byte);
                p += 3;
            }
            [plain, ..] => {
                found |= same::<NOCASE>(*plain, byte);
                p += 1;
            }
        }
    }
    (found != negated).then_some(p)
}

/// Bytes are compared as signed ones: so does Redis where `char` is signed, which is nearly everywhere.
fn in_range<const NOCASE: bool>(from: u8, to: u8, byte: u8) -> bool {
    let (low, high) = if from as i8 > to as i8 { (to, from) } else { (from, to) };
    if NOCASE {
        // Where C lowers a signed character, glibc gives back the unsigned one, but for 0xff, which it takes for EOF.
        let [low, high, byte] = [low, high, byte].map(|b| match b {
            0xff => -1,
            _ => i32::from(b.to_ascii_lowercase()),
        });
        return low <= byte && byte <= high;
    }
    low as i8 <= byte as i8 && byte as i8 <= high as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        for (pattern, text, expected) in [
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "heello", false),
            ("h\\", "h\\", true),
            ("[", "[", false),
            ("[^", "x", true),
            ("[abc", "c", true),
            ("[a-", "-", true),
            ("[\\]]", "]", true),
            ("[]", "]", false),
            ("a***", "a", true),
            ("*", "x", true),
            ("*", "", false),
            ("", "", true),
            ("", "x", false),
            ("*ab*ab", "xabyab", true),
            ("*ab*ab", "xaby", false),
            ("HELLO", "hello", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(matches_nocase(b"HeL[K-M]o", b"hElLO"));
        assert!(!matches_nocase(b"[\\A]", b"a"));
    }

    #[test]
    fn many_stars_take_polynomial_time() {
        let text = vec![b'a'; 2000];
        let mut pattern = b"a*".repeat(1000);
        pattern.push(b'b');
        assert!(!matches(&pattern, &text));
    }

    /// The definition, recursive and slow: an oracle for patterns without odd corners.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => oracle(rest, text) || (!text.is_empty() && oracle(pattern, &text[1..])),
            ([b'?', rest @ ..], [_, tail @ ..]) => oracle(rest, tail),
            ([a, rest @ ..], [b, tail @ ..]) => a == b && oracle(rest, tail),
            (_, []) => false,
        }
    }

    #[test]
    fn agrees_with_the_definition() {
        let (patterns, texts) = (words(b"a*?b", 6), words(b"ab", 6));
        for text in texts.iter().filter(|text| !text.is_empty()) {
            for pattern in &patterns {
                assert_eq!(matches(pattern, text), oracle(pattern, text), "{pattern:?} {text:?}");
            }
        }
    }

    /// Every word over an alphabet up to a length.
    fn words(alphabet: &[u8], length: usize) -> Vec<Vec<u8>> {
        let mut all = vec![vec![]];
        let mut from = 0;
        for _ in 0..length {
            let to = all.len();
            for i in from..to {
                for &letter in alphabet {
                    let mut word = all[i].clone();
                    word.push(letter);
                    all.push(word);
                }
            }
            from = to;
        }
        all
    }
}
