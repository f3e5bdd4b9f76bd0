//! Places of a source file where mutants are, found by the position that the list gives.

use std::collections::BTreeMap;
use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, UnOp};

/// Kind of a mutant as the list names it, with line and column (from 1 on) of what is changed.
pub(super) type Key = (&'static str, u64, u64);

/// Place whose text is changed. All ranges are of bytes.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) range: Range<usize>,
    pub(super) kind: Kind,
    /// Text of the operator.
    pub(super) operator: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// The beginning of a function's body.
    Body,
    /// `&&` and `||`, of which the second operand may not be evaluated.
    Logic(Range<usize>, Range<usize>),
    /// Operators that take references to their operands.
    Compare(Range<usize>, Range<usize>),
    Arithmetic(Range<usize>, Range<usize>),
    Assign(Range<usize>, Range<usize>),
    Unary(Range<usize>),
    /// What stands between a pattern and `=>`: perhaps a guard.
    Arm(Option<Range<usize>>),
}

impl Kind {
    /// Number of further forms in which it can be written, for the case that one does not compile.
    pub(super) fn last_level(&self) -> usize {
        match self {
            Self::Compare(..) => 2,
            Self::Arithmetic(..) => 1,
            _ => 0,
        }
    }
}

/// Finds all places in a file. None in constants, which no switch can reach at run time, and none where the types forbid it:
/// `impl Trait` is one type, and a chain of `let` is no expression.
pub(super) fn find(file: &syn::File) -> (Vec<Site>, BTreeMap<Key, usize>) {
    let mut finder = Finder::default();
    finder.visit_file(file);
    (finder.sites, finder.keys)
}

#[derive(Default)]
struct Finder {
    sites: Vec<Site>,
    keys: BTreeMap<Key, usize>,
}

impl Finder {
    fn add(&mut self, genre: &'static str, at: Span, site: Site) {
        self.keys.insert(key(genre, at), self.sites.len());
        self.sites.push(site);
    }

    fn body(&mut self, output: &syn::ReturnType, block: &syn::Block) {
        let opaque = matches!(output, syn::ReturnType::Type(_, ty) if holds_impl(ty));
        if let (Some(first), false) = (block.stmts.first(), opaque) {
            let at = block.brace_token.span.open().byte_range().end;
            self.add("FnValue", first.span(), Site { range: at..at, kind: Kind::Body, operator: at..at });
        }
    }
}

fn key(genre: &'static str, at: Span) -> Key {
    let start = at.start();
    (genre, start.line as u64, start.column as u64 + 1)
}

fn holds_impl(ty: &syn::Type) -> bool {
    struct Search(bool);
    impl Visit<'_> for Search {
        fn visit_type_impl_trait(&mut self, _: &syn::TypeImplTrait) {
            self.0 = true;
        }
    }
    let mut search = Search(false);
    search.visit_type(ty);
    search.0
}

fn is_let_chain(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => is_let_chain(&binary.left) || is_let_chain(&binary.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.body(&item.sig.output, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.body(&item.sig.output, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.body(&item.sig.output, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let (pat, guard) = match &arm.pat {
            syn::Pat::Guard(guarded) => (&*guarded.pat, Some(&*guarded.guard)),
            pat => (pat, None),
        };
        if !guard.is_some_and(is_let_chain) {
            if let Some(guard) = guard {
                self.keys.insert(key("MatchArmGuard", guard.span()), self.sites.len());
            }
            let end = pat.span().byte_range().end;
            let range = end..arm.fat_arrow_token.span().byte_range().start;
            let kind = Kind::Arm(guard.map(|guard| guard.span().byte_range()));
            self.add("MatchArm", arm.span(), Site { range, kind, operator: end..end });
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        if !matches!(unary.op, UnOp::Deref(_)) {
            let kind = Kind::Unary(unary.expr.span().byte_range());
            let operator = unary.op.span();
            let site = Site { range: unary.span().byte_range(), kind, operator: operator.byte_range() };
            self.add("UnaryOperator", operator, site);
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        use BinOp::{And, Eq, Ge, Gt, Le, Lt, Ne, Or};
        let kind = match binary.op {
            And(_) | Or(_) => Kind::Logic,
            Eq(_) | Ne(_) | Lt(_) | Le(_) | Gt(_) | Ge(_) => Kind::Compare,
            BinOp::Add(_)
            | BinOp::Sub(_)
            | BinOp::Mul(_)
            | BinOp::Div(_)
            | BinOp::Rem(_)
            | BinOp::BitXor(_)
            | BinOp::BitAnd(_)
            | BinOp::BitOr(_)
            | BinOp::Shl(_)
            | BinOp::Shr(_) => Kind::Arithmetic,
            _ => Kind::Assign,
        };
        if !is_let_chain(&binary.left) && !is_let_chain(&binary.right) {
            let kind = kind(binary.left.span().byte_range(), binary.right.span().byte_range());
            let operator = binary.op.span();
            let site = Site { range: binary.span().byte_range(), kind, operator: operator.byte_range() };
            self.add("BinaryOperator", operator, site);
        }
        visit::visit_expr_binary(self, binary);
    }
}
