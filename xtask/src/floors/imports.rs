//! Imports between the top-level modules of a crate, read from its source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Field, ImplItem, Item, ItemMod, ItemUse, Macro, Meta, TraitItem, UseTree, Visibility};

/// One place where a module names something of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    /// Top-level module that the place is in.
    pub(super) from: String,
    /// Top-level module that is named.
    pub(super) to: String,
    /// File of the place, relative to the folder that was asked about.
    pub(super) file: PathBuf,
    pub(super) line: usize,
    /// Path that is named, from the crate's root: `machine::Machine`.
    pub(super) path: String,
}

/// Modules and imports of a crate.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Top-level modules that are not for tests only.
    pub(super) modules: BTreeSet<String>,
    pub(super) imports: BTreeSet<Import>,
}

/// Reads the crate whose root is `folder/lib.rs`: `use` trees, and qualified paths in expressions, types and macros. What
/// is compiled for tests only and what documentation names do not count.
pub(super) fn read(folder: &Path) -> Result<Source, String> {
    let root = parse(folder, Path::new("lib.rs"))?;
    let modules = root.items.iter().filter_map(|item| match item {
        Item::Mod(module) if !for_tests(&module.attrs) => Some(module.ident.to_string()),
        _ => None,
    });
    let source = Source { modules: modules.collect(), imports: BTreeSet::new() };
    let mut walk = Walk { folder, source, file: "lib.rs".into(), module: Vec::new(), trouble: Vec::new() };
    walk.visit_file(&root);
    if walk.trouble.is_empty() { Ok(walk.source) } else { Err(walk.trouble.join("; ")) }
}

fn parse(folder: &Path, file: &Path) -> Result<syn::File, String> {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    syn::parse_file(&text).map_err(|e| format!("{}:{}: {e}", path.display(), e.span().start().line))
}

/// A walk through the crate's files, at one place of it.
struct Walk<'a> {
    folder: &'a Path,
    source: Source,
    /// Current file, relative to `folder`.
    file: PathBuf,
    /// Current module, from the crate's root.
    module: Vec<String>,
    trouble: Vec<String>,
}

impl Walk<'_> {
    /// Notes what `path` names, as written at the current place, if that is another top-level module.
    fn name(&mut self, path: &[Ident]) {
        let Some(first) = path.first() else { return };
        let mut rest = path.iter().map(Ident::to_string).peekable();
        let mut absolute = match first.to_string().as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            // A name in scope: whatever brought it there counts.
            _ => return,
        };
        while let Some(step) = rest.next_if(|step| matches!(step.as_str(), "crate" | "self" | "super")) {
            if step == "super" && absolute.pop().is_none() {
                self.trouble.push(format!("{}: `super` of the root", self.place(first)));
            }
        }
        absolute.extend(rest);
        let (Some(from), Some(to)) = (self.module.first(), absolute.first()) else { return };
        if from != to && self.source.modules.contains(to) {
            let import = Import {
                from: from.clone(),
                to: to.clone(),
                file: self.file.clone(),
                line: first.span().start().line,
                path: absolute.join("::"),
            };
            self.source.imports.insert(import);
        } else if from != to {
            // Something of the root itself would hide which module it is from.
            self.trouble.push(format!("{}: no top-level module `{to}`", self.place(first)));
        }
    }

    fn place(&self, at: &Ident) -> String {
        format!("{}:{}", self.folder.join(&self.file).display(), at.span().start().line)
    }

    /// Names each leaf of a `use` tree.
    fn tree(&mut self, tree: &UseTree, path: &mut Vec<Ident>) {
        match tree {
            UseTree::Path(step) => {
                path.push(step.ident.clone());
                self.tree(&step.tree, path);
                path.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, path)),
            UseTree::Name(leaf) => self.leaf(&leaf.ident, path),
            UseTree::Rename(leaf) => self.leaf(&leaf.ident, path),
            UseTree::Glob(_) => self.name(path),
        }
    }

    fn leaf(&mut self, leaf: &Ident, path: &mut Vec<Ident>) {
        path.push(leaf.clone());
        self.name(path);
        path.pop();
    }

    /// Names each path in the arguments or the body of a macro, where there are tokens only. `prefix` is the path before a
    /// group in braces, as in `use crate::{a, b}`.
    fn tokens(&mut self, tokens: TokenStream, prefix: &[Ident]) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            let first = match token {
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), &[]);
                    continue;
                }
                TokenTree::Ident(first) => first,
                _ => continue,
            };
            let mut path = prefix.to_vec();
            path.push(first);
            let mut colons = 0;
            loop {
                match tokens.peek() {
                    Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && colons < 2 => colons += 1,
                    Some(TokenTree::Ident(step)) if colons == 2 => {
                        path.push(step.clone());
                        colons = 0;
                    }
                    Some(TokenTree::Group(group)) if colons == 2 && group.delimiter() == Delimiter::Brace => {
                        let leaves = group.stream();
                        self.tokens(leaves, &path);
                        path.clear();
                    }
                    _ => break,
                }
                tokens.next();
            }
            self.name(&path);
        }
    }
}

/// Defines visits that pass over what is compiled for tests only.
macro_rules! unless_for_tests {
    ($($visit:ident: $node:ty, $attributes:expr;)*) => {
        $(fn $visit(&mut self, node: &'ast $node) {
            let attributes: fn(&$node) -> &[Attribute] = $attributes;
            if !for_tests(attributes(node)) {
                visit::$visit(self, node);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Walk<'_> {
    unless_for_tests! {
        visit_item: Item, item_attributes;
        visit_impl_item: ImplItem, |item| match item {
            ImplItem::Const(i) => &i.attrs,
            ImplItem::Fn(i) => &i.attrs,
            ImplItem::Type(i) => &i.attrs,
            ImplItem::Macro(i) => &i.attrs,
            _ => &[],
        };
        visit_trait_item: TraitItem, |item| match item {
            TraitItem::Const(i) => &i.attrs,
            TraitItem::Fn(i) => &i.attrs,
            TraitItem::Type(i) => &i.attrs,
            TraitItem::Macro(i) => &i.attrs,
            _ => &[],
        };
        visit_field: Field, |field| &field.attrs;
        visit_local: syn::Local, |local| &local.attrs;
        visit_arm: syn::Arm, |arm| &arm.attrs;
        visit_variant: syn::Variant, |variant| &variant.attrs;
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let name = module.ident.to_string();
        if module.content.is_some() {
            self.module.push(name);
            visit::visit_item_mod(self, module);
            self.module.pop();
            return;
        }
        if module.attrs.iter().any(|a| a.path().is_ident("path")) {
            self.trouble.push(format!("{}: a module with `#[path]` cannot be found", self.place(&module.ident)));
            return;
        }
        self.module.push(name);
        let below: PathBuf = self.module.iter().collect();
        let file = below.with_extension("rs");
        let file = if self.folder.join(&file).exists() { file } else { below.join("mod.rs") };
        match parse(self.folder, &file) {
            Ok(parsed) => {
                let outer = std::mem::replace(&mut self.file, file);
                self.visit_file(&parsed);
                self.file = outer;
            }
            Err(why) => self.trouble.push(why),
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let steps: Vec<Ident> = path.segments.iter().map(|segment| segment.ident.clone()).collect();
        // `self` alone is the receiver, and `crate` or `super` alone name no module.
        if steps.len() > 1 {
            self.name(&steps);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone(), &[]);
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// True when a `cfg` among the attributes can hold in builds for tests only.
fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<Meta>().is_ok_and(|condition| holds(&condition) == Some(false))
    })
}

/// Value of a `cfg` condition where `test` does not hold; `None` when it depends on something else.
fn holds(condition: &Meta) -> Option<bool> {
    let parts = || {
        let Meta::List(list) = condition else { return Vec::new() };
        let parse = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
        list.parse_args_with(parse).map(|parts| parts.iter().map(holds).collect()).unwrap_or_default()
    };
    let name = condition.path();
    if name.is_ident("test") {
        Some(false)
    } else if name.is_ident("not") {
        parts().first().copied().flatten().map(|part| !part)
    } else if name.is_ident("all") {
        parts().contains(&Some(false)).then_some(false)
    } else if name.is_ident("any") {
        let parts = parts();
        (!parts.is_empty() && parts.iter().all(|part| *part == Some(false))).then_some(false)
    } else {
        None
    }
}
