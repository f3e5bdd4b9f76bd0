//! A device tree as source, read from what `dtc` writes.

use std::collections::BTreeMap;

/// Number of a node, in the order of the source.
pub(super) type Id = usize;

#[derive(Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) parent: Option<Id>,
    pub(super) props: Vec<(String, Vec<u8>)>,
    /// Neither it nor a node above it is disabled.
    pub(super) enabled: bool,
}

/// All nodes.
pub(super) struct Source {
    pub(super) nodes: Vec<Node>,
    phandles: BTreeMap<u32, Id>,
}

impl Source {
    /// Reads source as `dtc` writes it: one property, opening or closing brace a line, properties first.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut open: Vec<Id> = Vec::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            if let Some(name) = line.strip_suffix('{') {
                let name = name.trim().rsplit(": ").next().unwrap_or_default().to_owned();
                let parent = open.last().copied();
                let path = match parent.map(|p| nodes[p].path.as_str()) {
                    None => String::new(),
                    Some(above) => format!("{above}/{name}"),
                };
                open.push(nodes.len());
                nodes.push(Node { name, path, parent, ..Node::default() });
            } else if line == "};" {
                open.pop().ok_or(line)?;
            } else if let Some(at) = open.last() {
                let line = line.strip_suffix(';').ok_or(line)?;
                let (name, value) = line.split_once(" = ").unwrap_or((line, ""));
                let name = name.rsplit(": ").next().unwrap_or_default();
                nodes[*at].props.push((name.to_owned(), bytes(value).ok_or(line)?));
            }
        }
        let mut source = Self { nodes, phandles: BTreeMap::new() };
        for id in 0..source.nodes.len() {
            let status = source.prop(id, "status").map(|s| s.split(|b| *b == 0).next().unwrap_or_default());
            let above = source.nodes[id].parent.is_none_or(|p| source.nodes[p].enabled);
            source.nodes[id].enabled = above && status.is_none_or(|s| s == b"okay" || s == b"ok");
            if let Some(phandle) = source.cell(id, "phandle") {
                source.phandles.entry(phandle).or_insert(id);
            }
        }
        Ok(source)
    }

    pub(super) fn prop(&self, id: Id, name: &str) -> Option<&[u8]> {
        self.nodes[id].props.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    /// First cell of a property.
    pub(super) fn cell(&self, id: Id, name: &str) -> Option<u32> {
        cells(self.prop(id, name)?).next()
    }

    pub(super) fn phandle(&self, phandle: u32) -> Option<Id> {
        self.phandles.get(&phandle).copied()
    }

    pub(super) fn words(&self, id: Id, name: &str) -> Vec<String> {
        let value = self.prop(id, name).unwrap_or_default();
        let words = value.split(|b| *b == 0).filter(|w| !w.is_empty());
        words.map(|w| String::from_utf8_lossy(w).into_owned()).collect()
    }

    /// The node and those above it, nearest first.
    pub(super) fn upwards(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        std::iter::successors(Some(id), |at| self.nodes[*at].parent)
    }

    /// The nearest value of a number of cells at or above `id`.
    pub(super) fn inherited(&self, id: Id, name: &str) -> usize {
        self.upwards(id).find_map(|at| self.cell(at, name)).map_or(1, |n| n as usize)
    }
}

/// The cells of a value.
pub(super) fn cells(value: &[u8]) -> impl Iterator<Item = u32> + '_ {
    value.chunks_exact(4).map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
}

/// Bytes of a value: texts, cells and bytes, with commas between them.
fn bytes(value: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        rest = match rest.as_bytes()[0] {
            b'<' => {
                let (inside, rest) = rest[1..].split_once('>')?;
                for cell in inside.split_whitespace() {
                    let cell = cell.strip_prefix("0x").map_or_else(|| cell.parse(), |hex| u32::from_str_radix(hex, 16));
                    out.extend(cell.ok()?.to_be_bytes());
                }
                rest
            }
            b'[' => {
                let (inside, rest) = rest[1..].split_once(']')?;
                let digits: Vec<char> = inside.chars().filter(|c| !c.is_whitespace()).collect();
                for pair in digits.chunks(2) {
                    out.push(u8::from_str_radix(&pair.iter().collect::<String>(), 16).ok()?);
                }
                rest
            }
            b'"' => text(&rest[1..], &mut out)?,
            _ => return None,
        };
        rest = rest.trim_start_matches([',', ' ']);
    }
    Some(out)
}

/// A quoted text, behind its first quote: appends its bytes and a zero, and returns what follows it.
fn text<'s>(quoted: &'s str, out: &mut Vec<u8>) -> Option<&'s str> {
    let mut chars = quoted.char_indices();
    loop {
        let (at, c) = chars.next()?;
        match c {
            '"' => {
                out.push(0);
                return Some(&quoted[at + 1..]);
            }
            '\\' => match chars.next()?.1 {
                'x' => {
                    let hex: String = [chars.next()?.1, chars.next()?.1].iter().collect();
                    out.push(u8::from_str_radix(&hex, 16).ok()?);
                }
                '0' => out.push(0),
                'n' => out.push(b'\n'),
                't' => out.push(b'\t'),
                'r' => out.push(b'\r'),
                'a' => out.push(7),
                'b' => out.push(8),
                'v' => out.push(11),
                'f' => out.push(12),
                other => out.extend(other.to_string().bytes()),
            },
            c => out.extend(c.to_string().bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_form_are_read() {
        let source = "/dts-v1/;\n/ {\n\ta = <0x01 2>;\n\tb = \"x\", \"y\\0z\";\n\tc = [01 0a ff];\n\td;\n\tn: n@1 {\n\t\tphandle = <0x07>;\n\t};\n};\n";
        let tree = Source::read(source).unwrap();
        let value = |name| tree.prop(0, name).unwrap();
        assert_eq!((value("a"), value("b")), (&[0, 0, 0, 1, 0, 0, 0, 2][..], &b"x\0y\0z\0"[..]));
        assert_eq!((value("c"), value("d")), (&[1, 10, 255][..], &[][..]));
        assert_eq!((tree.phandle(7), tree.nodes[1].path.as_str()), (Some(1), "/n@1"));
    }
}
