//! Arguments of a call: slices of a buffer, or owned when the call has to outlive it.

use std::sync::Arc;

use mortise_sdk::args::Arguments;

/// Where an argument stands in its buffer.
pub type Span = (u32, u32);

/// The arguments of a call, the command's name first.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buffer: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Arguments in a buffer.
    pub fn new(buffer: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        Args { buffer, spans }
    }

    /// How many there are.
    #[inline(always)]
    pub fn len(self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at an index that arity has shown to exist.
    #[inline(always)]
    pub fn at(self, index: usize) -> &'a [u8] {
        let (start, end) = self.spans[index];
        &self.buffer[start as usize..end as usize]
    }

    /// The argument at an index, if there is one.
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        let (start, end) = *self.spans.get(index)?;
        Some(&self.buffer[start as usize..end as usize])
    }

    /// How much of their buffer they reach over.
    #[inline(always)]
    pub fn extent(self) -> usize {
        match (self.spans.first(), self.spans.last()) {
            (Some((start, _)), Some((_, end))) => (end - start) as usize,
            _ => 0,
        }
    }

    /// Those from an index on.
    pub fn from(self, index: usize) -> Args<'a> {
        Args { buffer: self.buffer, spans: self.spans.get(index..).unwrap_or_default() }
    }

    /// All of them.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let buffer = self.buffer;
        self.spans.iter().map(move |&(start, end)| &buffer[start as usize..end as usize])
    }

    /// Copies them, so that they outlive their buffer.
    pub fn to_owned(self) -> OwnedArgs {
        OwnedArgs::new(self.iter())
    }
}

impl Arguments for Args<'_> {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, index: usize) -> &[u8] {
        Args::at(*self, index)
    }
}

/// Arguments that own their bytes: queued calls, waiting calls, propagated ones. Cloning shares them.
#[derive(Clone)]
pub struct OwnedArgs(Arc<(Vec<u8>, Vec<Span>)>);

impl OwnedArgs {
    /// Copies some arguments.
    pub fn new<'a>(args: impl Iterator<Item = &'a [u8]>) -> OwnedArgs {
        let (mut buffer, mut spans) = (Vec::new(), Vec::new());
        for arg in args {
            let start = buffer.len();
            buffer.extend_from_slice(arg);
            let span = |at: usize| u32::try_from(at).expect("the query buffer is limited below 4 GB");
            spans.push((span(start), span(buffer.len())));
        }
        OwnedArgs(Arc::new((buffer, spans)))
    }

    /// To be read.
    pub fn view(&self) -> Args<'_> {
        Args::new(&self.0.0, &self.0.1)
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        self.0.0.capacity() + self.0.1.capacity() * size_of::<Span>()
    }
}
