//! Text of a source file with its mutants, each behind a switch.
//!
//! `/*#S*/` and `/*S#*/` enclose what is written for a place, `/*@N*/` and `/*N@*/` the mutant's own text: so an error of the
//! compiler is led back to whom it is about.

use std::fmt::Write as _;
use std::ops::Range;

use super::sites::{Kind, Site};

/// A place with its mutants: number, and what is put there.
pub(super) struct Switched {
    pub(super) site: Site,
    /// Numbers and replacements. The numbers of one place follow each other.
    pub(super) mutants: Vec<(usize, Change)>,
    /// The numbers of all its mutants, those included that are given up.
    pub(super) all: Range<usize>,
    /// Number of forms that did not compile.
    pub(super) level: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Another operator, or another value.
    To(String),
    /// The arm is deleted.
    DeleteArm,
}

/// The text of the file.
pub(super) fn render(text: &str, sites: &mut [Switched]) -> String {
    // The outer one before those in it.
    sites.sort_by_key(|s| (s.site.range.start, std::cmp::Reverse(s.site.range.end)));
    Writer { text, sites }.part(0..text.len())
}

struct Writer<'a> {
    text: &'a str,
    sites: &'a [Switched],
}

impl Writer<'_> {
    fn part(&self, range: Range<usize>) -> String {
        let (mut out, mut at) = (String::new(), range.start);
        for switched in self.sites {
            let place = &switched.site.range;
            if place.start >= at && place.end <= range.end && !switched.mutants.is_empty() {
                out.push_str(&self.text[at..place.start]);
                let number = switched.all.start;
                let _ = write!(out, "/*#{number}*/{}/*{number}#*/", self.place(switched));
                at = place.end;
            }
        }
        out.push_str(&self.text[at..range.end]);
        out
    }

    fn place(&self, switched: &Switched) -> String {
        let on = |n: usize| format!("::mutant_switch::on({n})");
        let operator = &self.text[switched.site.operator.clone()];
        let first = switched.mutants[0].0;
        match &switched.site.kind {
            Kind::Body => switched.mutants.iter().fold(String::new(), |mut out, (n, change)| {
                if let Change::To(value) = change {
                    let _ = write!(out, "if {} {{ /*@{n}*/return {value};/*{n}@*/ }}", on(*n));
                }
                out
            }),
            Kind::Logic(left, right) => {
                let (left, right) = (self.part(left.clone()), self.part(right.clone()));
                let (on, off) = (on(first), format!("!{}", on(first)));
                let (goes_on, else_is) = if operator == "&&" { (off, on) } else { (on, off) };
                format!("(if ({left}) == ({goes_on}) {{ {right} }} else {{ {else_is} }})")
            }
            Kind::Compare(left, right) if switched.level == 0 => {
                let (left, right) = (self.part(left.clone()), self.part(right.clone()));
                let choice = choice(switched, operator, |op| format!("*left_ {op} *right_"));
                format!("(match (&({left}), &({right})) {{ (left_, right_) => {choice} }})")
            }
            // With each operand in each form: so the compiler sees its type.
            Kind::Compare(left, right) | Kind::Arithmetic(left, right)
                if switched.level == switched.site.kind.last_level() =>
            {
                let (left, right) = (self.part(left.clone()), self.part(right.clone()));
                format!("({})", choice(switched, operator, |op| format!("{left} {op} {right}")))
            }
            Kind::Compare(left, right) | Kind::Arithmetic(left, right) => {
                let (left, right) = (self.part(left.clone()), self.part(right.clone()));
                let choice = choice(switched, operator, |op| format!("left_ {op} right_"));
                format!("(match ({left}, {right}) {{ (left_, right_) => {choice} }})")
            }
            Kind::Assign(left, right) => {
                let (left, right) = (self.part(left.clone()), self.part(right.clone()));
                let choice = choice(switched, operator, |op| format!("{left} {op} right_"));
                format!("(match {right} {{ right_ => {choice} }})")
            }
            Kind::Unary(operand) => {
                let choice = choice(switched, operator, |op| format!("{op} operand_"));
                format!("(match {} {{ operand_ => {choice} }})", self.part(operand.clone()))
            }
            Kind::Arm(guard) => {
                let mut condition = guard.clone().map_or_else(|| "true".into(), |guard| self.part(guard));
                for (n, change) in &switched.mutants {
                    condition = match change {
                        Change::To(value) if value == "true" => format!("({} || ({condition}))", on(*n)),
                        // The arm goes, or its guard is `false`.
                        _ => format!("(!{} && ({condition}))", on(*n)),
                    };
                }
                format!(" if {condition} ")
            }
        }
    }
}

/// The operation with the operator as it is, or with one of the mutants' operators. As it is comes first: the compiler takes the
/// type from there.
fn choice(switched: &Switched, operator: &str, with: impl Fn(&str) -> String) -> String {
    let all = &switched.all;
    let mut out = format!("if ::mutant_switch::none({}, {}) {{ {} }}", all.start, all.end, with(operator));
    for (at, (n, change)) in switched.mutants.iter().enumerate() {
        let Change::To(other) = change else { continue };
        let condition =
            if at + 1 == switched.mutants.len() { String::new() } else { format!("if ::mutant_switch::on({n}) ") };
        let _ = write!(out, " else {condition}{{ /*@{n}*/{}/*{n}@*/ }}", with(other));
    }
    out
}

/// Whom the byte `at` of a rendered text belongs to: the place, and the mutant when it is the mutant's own text.
pub(super) fn owner(rendered: &str, at: usize) -> Option<(usize, Option<usize>)> {
    let mut open: Vec<(bool, usize)> = Vec::new();
    for comment in rendered[..at].split("/*").skip(1) {
        let Some((inside, _)) = comment.split_once("*/") else { continue };
        if let Some(n) = inside.strip_prefix('#').and_then(|n| n.parse().ok()) {
            open.push((false, n));
        } else if let Some(n) = inside.strip_prefix('@').and_then(|n| n.parse().ok()) {
            open.push((true, n));
        } else if inside.strip_suffix(['#', '@']).is_some_and(|n| n.parse::<usize>().is_ok()) {
            open.pop();
        }
    }
    match open[..] {
        [] => None,
        [.., (_, site), (true, mutant)] => Some((site, Some(mutant))),
        [.., (_, site)] => Some((site, None)),
    }
}

/// The first arm with a switch.
pub(super) fn first_arm(rendered: &str) -> Option<usize> {
    let (before, _) = rendered.split_once("*/ if ")?;
    before.rsplit_once("/*#")?.1.parse().ok()
}
