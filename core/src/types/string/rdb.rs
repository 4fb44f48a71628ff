//! A string as it is saved.

use super::long::CHUNK_LEN;
use super::long::LongText;
use super::value::StrRef;
use crate::keyspace::entry::Kind;
use crate::persistence::snapshot::value::Loaded;
use crate::persistence::snapshot::{Out, Reader, Result, Text};
use crate::types::Object;

/// Writes a string.
pub(crate) fn save(text: StrRef<'_>, out: &mut Out<'_>) -> Result<()> {
    match text {
        StrRef::Integer(n) => out.small().integer(n),
        StrRef::Bytes(bytes) => out.bytes(bytes)?,
        StrRef::Long(text) => out.text(text.len(), || text.chunks())?,
    }
    Ok(())
}

/// Reads a string, which is kept as if it had been set.
pub(crate) fn load(from: &mut Reader<'_>) -> Result<Loaded> {
    const INTEGER_LEN_MAX: usize = 20;
    let text = from.text()?;
    if let Text::Integer(n) = text {
        return Ok(Loaded::Integer(n));
    }
    let bytes = text.into_bytes();
    if bytes.len() <= INTEGER_LEN_MAX
        && let Some(n) = mortise_sdk::args::parse_integer(&bytes)
    {
        return Ok(Loaded::Integer(n));
    }
    Ok(match bytes.len() {
        0..=CHUNK_LEN => Loaded::Bytes(Kind::Text, bytes.into_owned()),
        _ => Loaded::Object(Box::new(Object::LongText(LongText::new(&bytes)))),
    })
}
