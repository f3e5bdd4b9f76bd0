//! Patterns for debug lines of drivers and of patched kernels, as the user writes them.
//!
//! A line of a pattern file is `KIND PATTERN`. In a pattern, `{device}`, `{backend}`, `{size}`, `{virt}` and `{addr}` stand for
//! values and `{}` for anything; all else is literal. `#` begins a comment. Kinds: `alloc-by` and `free-by` name the back-end
//! that serves the call that the device makes next or makes now, `alloc` and `free` the memory.

use crate::event::{Backend, hex, number};
use crate::find::find;

/// Content of a debug line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The back-end that allocates.
    AllocBy,
    /// Memory that was allocated.
    Alloc,
    /// The back-end that frees.
    FreeBy,
    /// Memory that is freed.
    Free,
}

/// A debug line that was understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DebugLine {
    /// Kind of event.
    pub kind: Kind,
    /// Device.
    pub device: String,
    /// Back-end, told by the name of a function or of DMA ops.
    pub backend: Option<Backend>,
    /// The name itself.
    pub name: String,
    /// Bytes.
    pub size: Option<u64>,
    /// CPU address.
    pub virt: Option<u64>,
    /// DMA address.
    pub addr: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(String),
    Value(String),
}

/// Patterns, the first that matches wins.
#[derive(Clone, Debug)]
pub struct Patterns {
    list: Vec<(Kind, Vec<Piece>)>,
}

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadPattern {
    /// Line of the pattern file.
    pub line: usize,
    /// The fault.
    pub what: String,
}

/// Most patterns that are read: each message of the log is held against each of them.
const MOST: usize = 256;

/// The debug lines of the patch that this project grew from.
const BUILT_IN: &str = include_str!("pattern.txt");

impl Default for Patterns {
    fn default() -> Self {
        Self::parse(BUILT_IN).unwrap_or(Self { list: Vec::new() })
    }
}

impl Patterns {
    /// The patterns of a file's `text`.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let mut list = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |what: String| BadPattern { line: at + 1, what };
            let (kind, pattern) =
                line.split_once(char::is_whitespace).ok_or_else(|| bad("no pattern after the kind".into()))?;
            let kind = match kind {
                "alloc-by" => Kind::AllocBy,
                "alloc" => Kind::Alloc,
                "free-by" => Kind::FreeBy,
                "free" => Kind::Free,
                other => return Err(bad(format!("no kind `{other}`: alloc-by, alloc, free-by or free"))),
            };
            list.push((kind, pieces(pattern.trim()).map_err(bad)?));
            if list.len() > MOST {
                return Err(bad(format!("more than {MOST} patterns")));
            }
        }
        Ok(Self { list })
    }

    /// These patterns, and after them those of `other`.
    pub fn extend(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    /// The debug line that `text` is.
    pub fn find(&self, text: &str) -> Option<DebugLine> {
        self.list.iter().find_map(|(kind, pieces)| debug_line(*kind, pieces, text))
    }
}

fn pieces(pattern: &str) -> Result<Vec<Piece>, String> {
    let mut rest = pattern;
    let mut out = Vec::new();
    let mut device = false;
    while let Some(open) = rest.find('{') {
        if open > 0 {
            out.push(Piece::Literal(rest[..open].to_owned()));
        } else if matches!(out.last(), Some(Piece::Value(_))) {
            return Err("two values without a letter between them".into());
        }
        let close = rest[open..].find('}').ok_or("a `{` without `}`")? + open;
        let name = &rest[open + 1..close];
        if !["", "device", "backend", "size", "virt", "addr"].contains(&name) {
            return Err(format!("no value `{name}`: device, backend, size, virt or addr"));
        }
        device |= name == "device";
        out.push(Piece::Value(name.to_owned()));
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        out.push(Piece::Literal(rest.to_owned()));
    }
    if device { Ok(out) } else { Err("no {device} in it".into()) }
}

fn debug_line(kind: Kind, pieces: &[Piece], text: &str) -> Option<DebugLine> {
    let mut line = DebugLine {
        kind,
        device: String::new(),
        backend: None,
        name: String::new(),
        size: None,
        virt: None,
        addr: None,
    };
    let mut rest = text.trim();
    let mut at = 0;
    while at < pieces.len() {
        match &pieces[at] {
            Piece::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
            Piece::Value(name) => {
                let end = match pieces.get(at + 1) {
                    Some(Piece::Literal(literal)) => find(rest, literal)?,
                    _ => rest.len(),
                };
                let value = rest[..end].trim();
                // What follows the last value of a debug line may be the mail's own words.
                let value = if at + 1 == pieces.len() { value.split(' ').next().unwrap_or("") } else { value };
                // Values are words: without this a pattern would match across a whole line.
                if value.contains(' ') && !name.is_empty() {
                    return None;
                }
                match name.as_str() {
                    "device" => value.clone_into(&mut line.device),
                    "backend" => {
                        value.clone_into(&mut line.name);
                        line.backend = Some(backend(value));
                    }
                    "size" => line.size = number(value),
                    "virt" => line.virt = hex(value),
                    // `%pad` behind a literal `0x` prints it twice.
                    "addr" => line.addr = hex(value.strip_prefix("0x0x").unwrap_or(value)),
                    _ => {}
                }
                rest = &rest[end..];
            }
        }
        at += 1;
    }
    (!line.device.is_empty()).then_some(line)
}

/// The back-end of a function's or of DMA ops' name.
fn backend(name: &str) -> Backend {
    let lower = name.to_ascii_lowercase();
    if lower.contains("iommu") {
        Backend::Iommu
    } else if lower.contains("direct") || lower.contains("null") || lower.contains("swiotlb") {
        Backend::Direct
    } else if lower.contains("coherent") {
        Backend::Pool
    } else {
        Backend::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_patch_are_understood() {
        let patterns = Patterns::default();
        let line = patterns
            .find("sata_rcar ee300000.sata: dma_alloc_attrs:274: allocated using __iommu_alloc_attrs()")
            .unwrap();
        assert_eq!(
            (line.kind, line.backend, line.device.as_str()),
            (Kind::AllocBy, Some(Backend::Iommu), "ee300000.sata")
        );
        let text = "sata_rcar ee300000.sata: dmam_alloc_attrs:98: size 2048 vaddr ffffff8012135000 dma_handle \
                    0x0x00000000fffff000 attrs 0x0";
        let line = patterns.find(text).unwrap();
        assert_eq!((line.kind, line.addr, line.size), (Kind::Alloc, Some(0xfffff000), Some(2048)));
        let line = patterns.find("sata_rcar ee300000.sata: dma_free_attrs:308: calling dma_direct_free()").unwrap();
        assert_eq!((line.kind, line.backend), (Kind::FreeBy, Some(Backend::Direct)));
        assert_eq!(patterns.find("sata_rcar ee300000.sata: link up"), None);
    }

    #[test]
    fn a_bad_pattern_is_named_by_its_line() {
        assert_eq!(Patterns::parse("\n# x\nfrees {device}").unwrap_err().line, 3);
        assert!(Patterns::parse("free {device").unwrap_err().what.contains('}'));
        assert!(Patterns::parse("free {thing}").unwrap_err().what.contains("thing"));
        assert!(Patterns::parse("free no device").is_err());
    }
}
