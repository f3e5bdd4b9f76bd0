//! Structure check for blobs whose names are longer than the library accepts.
//!
//! `dtoolkit` limits names to the 31 characters of the Devicetree Specification (v0.4, 2.2.1 and 2.2.4). Half of the
//! trees that Debian ships for arm64 have longer property names (`snps,quirk-frame-length-adjustment`). The library
//! checks header and reservations before names, so only the structure block is checked here.

use super::FdtError;

/// Longest name of a node or property that is accepted.
const MAX_NAME: usize = 255;

// Tokens (Devicetree Specification 5.4.1) and header fields (5.2) that the walk needs.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
const OFF_STRUCT: usize = 8;
const OFF_STRINGS: usize = 12;
const SIZE_STRINGS: usize = 32;

/// Checks that tokens are nested, values lie within the blob, and names are printable and not too long.
pub(super) fn check(blob: &[u8]) -> Result<(), FdtError> {
    let mut at = word(blob, OFF_STRUCT)? as usize;
    let strings = word(blob, OFF_STRINGS)? as usize;
    let end = strings.saturating_add(word(blob, SIZE_STRINGS)? as usize);
    let strings = blob.get(strings..end).ok_or_else(|| bad("strings outside the blob", strings))?;
    let mut depth = 0_u32;
    let mut may_have_props = false;
    loop {
        let token = word(blob, at)?;
        at += 4;
        match token {
            BEGIN_NODE => {
                let name = name(blob, at)?;
                if name.is_empty() != (depth == 0) || name.iter().any(|b| matches!(b, b'/' | b'#')) {
                    return Err(bad("a bad node name", at));
                }
                at = (at + name.len() + 1).next_multiple_of(4);
                depth += 1;
                may_have_props = true;
            }
            PROP if may_have_props => {
                let len = word(blob, at)? as usize;
                let offset = word(blob, at + 4)? as usize;
                if name(strings, offset).map_err(|_| bad("a bad property name", at))?.is_empty() {
                    return Err(bad("a property without a name", at));
                }
                at += 8;
                if len > blob.len().saturating_sub(at) {
                    return Err(bad("a value past the end", at));
                }
                at = (at + len).next_multiple_of(4);
            }
            END_NODE if depth > 0 => {
                depth -= 1;
                may_have_props = false;
                if depth == 0 {
                    break;
                }
            }
            NOP => {}
            _ => return Err(bad("an unexpected token", at - 4)),
        }
    }
    if word(blob, at)? == END { Ok(()) } else { Err(bad("no end token", at)) }
}

fn word(blob: &[u8], at: usize) -> Result<u32, FdtError> {
    let bytes = blob.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or_else(|| bad("an early end", at))?;
    Ok(u32::from_be_bytes(*bytes))
}

fn name(block: &[u8], at: usize) -> Result<&[u8], FdtError> {
    let rest = block.get(at..).ok_or_else(|| bad("a name outside its block", at))?;
    let len = rest.iter().take(MAX_NAME + 1).position(|b| *b == 0).ok_or_else(|| bad("an endless name", at))?;
    if rest[..len].iter().all(u8::is_ascii_graphic) { Ok(&rest[..len]) } else { Err(bad("an unprintable name", at)) }
}

const fn bad(what: &'static str, offset: usize) -> FdtError {
    FdtError::Structure { what, offset }
}
