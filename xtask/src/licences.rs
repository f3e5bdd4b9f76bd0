//! The licences of everything that the project is built from.

use std::collections::BTreeSet;

use crate::cargo::Cargo;
use crate::outcome::{Outcome, Trouble};

/// Licences that ask for nothing but their own text.
const ALLOWED: [&str; 9] = [
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "Unicode-3.0",
    "Apache-2.0 WITH LLVM-exception",
];

/// Checks every package in the dependency graph, for all targets, build and test dependencies included.
pub(crate) fn run() -> Outcome {
    let list = Cargo::new("tree --workspace --target all --prefix none --format")
        .args(&["{p}|{l}", "--edges", "normal,build,dev"])
        .output()?;
    let packages: BTreeSet<&str> =
        list.lines().map(|l| l.trim_end_matches(" (*)")).filter(|l| l.contains('|')).collect();
    let refused: Vec<&str> = packages.iter().copied().filter(|p| !p.rsplit('|').next().is_some_and(allowed)).collect();
    for package in &refused {
        eprintln!("licence not allowed: {package}");
    }
    match refused.len() {
        0 if packages.is_empty() => Err(Trouble::Broken("cargo tree listed no packages".into())),
        0 => Ok(()),
        n => Err(Trouble::Failed(format!("{n} of {} packages have a licence that is not allowed", packages.len()))),
    }
}

/// True when an SPDX expression can be met with allowed licences alone. The old form `MIT/Apache-2.0` means `OR`.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words) == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

// Each of these reads one level of an expression and tells whether it is met; `None` means that it is malformed.

fn either(words: &mut Words<'_>) -> Option<bool> {
    let mut met = both(words)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= both(words)?;
    }
    Some(met)
}

fn both(words: &mut Words<'_>) -> Option<bool> {
    let mut met = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words)?;
    }
    Some(met)
}

fn one(words: &mut Words<'_>) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let met = either(words)?;
        return (words.next() == Some(")")).then_some(met);
    }
    if words.next_if_eq(&"WITH").is_some() {
        return Some(ALLOWED.contains(&format!("{word} WITH {}", words.next()?).as_str()));
    }
    Some(ALLOWED.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        for good in ["MIT", "MIT/Apache-2.0", "GPL-2.0 OR MIT", "(MIT OR GPL-3.0) AND Unicode-3.0"] {
            assert!(allowed(good), "{good}");
        }
        for bad in ["", "GPL-2.0", "MIT AND GPL-2.0", "MIT OR", "(MIT", "MIT Apache-2.0", "GPL-2.0 WITH LLVM-exception"]
        {
            assert!(!allowed(bad), "{bad}");
        }
        assert!(allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
    }
}
