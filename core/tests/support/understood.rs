//! What the request parser makes of a stream that arrives in pieces, with what must hold of each piece. Shared with the
//! fuzz target.

use mortise_core::resp::request::{INLINE_LEN_MAX, Parsed, Partial, RequestLimits, parse};

/// What the parser makes of a stream: its requests, and how it ends.
#[derive(PartialEq, Debug)]
pub(crate) struct Understood {
    requests: Vec<Vec<Vec<u8>>>,
    broken: Option<String>,
}

/// Parses a stream that arrives in pieces of the given lengths, as a connection does.
pub(crate) fn understand(
    stream: &[u8],
    limits: RequestLimits,
    mut next_len: impl FnMut() -> usize,
) -> Understood {
    let (mut requests, mut broken) = (Vec::new(), None);
    let (mut buffer, mut partial, mut arrived) = (Vec::new(), Partial::default(), 0);
    while arrived < stream.len() && broken.is_none() {
        let len = next_len().clamp(1, stream.len() - arrived);
        buffer.extend_from_slice(&stream[arrived..arrived + len]);
        arrived += len;
        let mut at = 0;
        loop {
            let mut spans = Vec::new();
            match parse(&buffer, at, &mut partial, &mut spans, limits) {
                Parsed::Request(end) => {
                    assert!(end > at && end <= buffer.len(), "it goes on, and not too far");
                    if !spans.is_empty() {
                        let word = |span: &(u32, u32)| buffer[span.0 as usize..span.1 as usize].to_vec();
                        requests.push(spans.iter().map(word).collect());
                    }
                    at = end;
                }
                Parsed::Quoted(end, request) => {
                    assert!(end > at && end <= buffer.len() && request.starts_with(b"*"));
                    buffer.splice(at..end, request);
                }
                Parsed::Incomplete => {
                    assert!(spans.is_empty(), "what is not complete is not handed out");
                    // Whatever is announced, no more than a limited number of bytes is waited for at a time.
                    let needed_max = (buffer.len() - at) + limits.bulk_len_max as usize + 2;
                    assert!(partial.needed() <= needed_max.max(INLINE_LEN_MAX), "{}", partial.needed());
                    break;
                }
                Parsed::Broken(error) => {
                    let text = error.as_bytes();
                    assert!(
                        text.starts_with(b"ERR Protocol error: ")
                            && !text.iter().any(|b| b"\r\n".contains(b))
                    );
                    broken = Some(error.to_string());
                    break;
                }
            }
        }
        buffer.drain(..at);
    }
    Understood { requests, broken }
}
