use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::graph::Graph;
use super::imports::{Source, read};
use super::table::Table;

/// A crate of `files`, read.
fn source(files: &[(&str, &str)]) -> Result<Source, String> {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    read(folder.path())
}

/// Imports of the modules of `files`, as `from -> path`, in order.
fn imports(files: &[(&str, &str)]) -> Vec<String> {
    source(files).unwrap().imports.iter().map(|i| format!("{}:{} -> {}", i.file.display(), i.line, i.path)).collect()
}

fn table(text: &str) -> Table {
    toml::from_str(text).unwrap()
}

/// Problems of a crate where `low` imports `high` in one place, and `high` imports `low`.
fn problems_of_two(text: &str) -> Vec<String> {
    let files = [
        ("lib.rs", "mod low; mod high;"),
        ("low.rs", "use crate::high::Thing;"),
        ("high.rs", "pub(crate) struct Thing(crate::low::Other);"),
    ];
    Graph::new(source(&files).unwrap(), Path::new("src")).problems(&table(text))
}

#[test]
fn use_trees_and_qualified_paths_are_imports() {
    let user = "use crate::{b::{self, X as Y}, c::*};\n\
                fn f(_: crate::b::T) -> [u8; crate::c::N] { super::b::g(); <T as crate::b::Trait>::h() }\n\
                pub(in crate::a) use super::super::a::x;\n\
                impl crate::b::Trait for crate::a::Own {}";
    let user = user.replace("super::super", "super");
    let files = [("lib.rs", "mod a; mod b; mod c;"), ("a.rs", &user), ("b.rs", ""), ("c.rs", "")];
    let expected = [
        "a.rs:1 -> b::X",
        "a.rs:1 -> b::self",
        "a.rs:2 -> b::T",
        "a.rs:2 -> b::Trait::h",
        "a.rs:2 -> b::g",
        "a.rs:4 -> b::Trait",
        "a.rs:1 -> c",
        "a.rs:2 -> c::N",
    ];
    assert_eq!(imports(&files), expected);
}

#[test]
fn super_is_followed_out_of_nested_files_and_inline_modules() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod deep; pub(crate) mod inline { use super::super::b::One; use super::deep; }"),
        ("a/deep.rs", "mod deeper;"),
        ("a/deep/deeper.rs", "use super::super::super::b::Two; use self::x; use super::super::inline;"),
        ("b.rs", ""),
    ];
    assert_eq!(imports(&files), ["a/deep/deeper.rs:1 -> b::Two", "a/mod.rs:1 -> b::One"]);
}

#[test]
fn macros_are_looked_into() {
    let user = "macro_rules! m { () => { $crate::b::in_definition() } }\n\
                fn f() { write!(w, \"{}\", [crate::b::in_call(1)]); m! { use crate::{b::Leaf, a::Own}; } }";
    let files = [("lib.rs", "mod a; mod b;"), ("a.rs", user), ("b.rs", "")];
    assert_eq!(imports(&files), ["a.rs:1 -> b::in_definition", "a.rs:2 -> b::Leaf", "a.rs:2 -> b::in_call"]);
}

#[test]
fn tests_and_documentation_do_not_count() {
    let user = "//! [`crate::b::X`]\n\
                #[cfg(test)] mod tests;\n\
                #[cfg(all(test, not(loom)))] mod more { use crate::b::X; }\n\
                #[cfg(any(test, feature = \"fake\"))] use crate::b::Fake;\n\
                #[cfg(not(test))] use crate::b::Real;\n\
                struct S { #[cfg(test)] f: crate::b::X, #[cfg(feature = \"x\")] g: crate::b::Field }\n\
                impl S { #[cfg(test)] fn t(_: crate::b::X) {} }\n\
                /// As [`crate::b::X`].\n\
                fn f() { #[cfg(test)] use crate::b::X; #[cfg(test)] let x: crate::b::X; }";
    let files = [("lib.rs", "mod a; mod b; #[cfg(test)] mod t;"), ("a.rs", user), ("b.rs", "")];
    assert_eq!(imports(&files), ["a.rs:4 -> b::Fake", "a.rs:5 -> b::Real", "a.rs:6 -> b::Field"]);
    assert_eq!(source(&files).unwrap().modules.len(), 2);
}

#[test]
fn what_cannot_be_placed_is_an_error_with_its_line() {
    let read = |a: &str| source(&[("lib.rs", "mod a;"), ("a.rs", a)]).unwrap_err();
    assert!(read("\nuse crate::unknown::X;").ends_with("a.rs:2: no top-level module `unknown`"));
    assert!(read("use super::super::a;").contains("`super` of the root"));
    assert!(read("fn {").contains("a.rs:1: "));
    assert!(read("mod gone;").contains("gone"));
    assert!(read("#[path = \"x.rs\"] mod m;").contains("#[path]"));
}

#[test]
fn an_import_upwards_fails_unless_it_is_on_the_list() {
    let floors = "floors = [['low'], ['high']]\ncircle = ['low', 'high']\n";
    let problems = problems_of_two(floors);
    let expected = "`low` imports `high`, which stands above it, in 1 places, 0 allowed: src/low.rs:1 high::Thing";
    assert_eq!(problems, [expected]);
    assert!(problems_of_two(&format!("{floors}[upward]\nlow = {{ high = 1 }}")).is_empty());
}

#[test]
fn the_list_only_gets_shorter() {
    let floors = "floors = [['low'], ['high']]\ncircle = ['low', 'high']\n";
    let problems = problems_of_two(&format!("{floors}[upward]\nlow = {{ high = 2 }}"));
    assert_eq!(problems, ["`low` imports `high` in 1 places, 2 allowed: lower the number to 1"]);
    let problems = problems_of_two(&format!("{floors}[upward]\nlow = {{ high = 1 }}\nhigh = {{ low = 1 }}"));
    assert_eq!(problems, ["`high` does not import `low` upwards: remove it from the list"]);
}

#[test]
fn a_circle_of_one_floor_must_be_on_the_list_and_leave_it_when_it_is_opened() {
    let one = "floors = [['low', 'high']]\n";
    let problems = problems_of_two(&format!("{one}circle = ['low']"));
    assert_eq!(problems, ["`high` is now in a circle: `cargo xtask floors` prints it"]);
    assert!(problems_of_two(&format!("{one}circle = ['low', 'high']")).is_empty());
    let open = source(&[("lib.rs", "mod low; mod high;"), ("low.rs", ""), ("high.rs", "use crate::low::X;")]);
    let problems = Graph::new(open.unwrap(), Path::new("src")).problems(&table(&format!("{one}circle = ['low']")));
    assert_eq!(problems, ["`low` is in no circle: remove it from the list"]);
}

#[test]
fn each_module_stands_on_one_floor() {
    let problems = problems_of_two("floors = [['low'], ['low', 'gone']]\ncircle = ['low', 'high']");
    let expected = [
        "`low` stands on two floors: leave it on one",
        "`high` stands on no floor: place it",
        "there is no module `gone`: remove it",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn circles_are_told_apart_and_printed_with_their_places() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
        ("a.rs", "use crate::b::X;"),
        ("b.rs", "use crate::a::X; use crate::c::X;"),
        ("c.rs", "use crate::d::X;"),
        ("d.rs", "use crate::e::X;"),
        ("e.rs", "use crate::c::X;"),
    ];
    let graph = Graph::new(source(&files).unwrap(), Path::new("src"));
    let table = table("floors = [['e'], ['d'], ['c'], ['b'], ['a']]\ncircle = []");
    let text = graph.text(&table);
    assert!(text.contains("circle of 2 modules: a, b\n"), "{text}");
    assert!(text.contains("circle of 3 modules: c, d, e\n"), "{text}");
    assert!(text.contains("  e -> c: 1, upwards\n      src/e.rs:1 c::X\n"), "{text}");
    assert!(text.ends_with("5 of 5 modules in a circle; 2 edges upwards, in 2 places\n"), "{text}");
    let json = graph.json(&table);
    assert_eq!(json["circles"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["edges"][0]["places"][0]["file"], "src/a.rs");
}
