//! Positions: those of the phases are given, arrows and labels follow from them.

use bindery::binding::Phase;

/// Size of the picture.
pub(super) const SIZE: (i32, i32) = (980, 330);
/// Size of a phase.
pub(super) const BOX: (i32, i32) = (140, 44);

/// The middle of a phase.
pub(super) const fn place(phase: Phase) -> (i32, i32) {
    match phase {
        Phase::Unbound => (120, 165),
        Phase::Probing => (355, 60),
        Phase::Bound => (695, 60),
        Phase::Quiescing => (695, 270),
        Phase::Releasing => (355, 270),
    }
}

/// An arrow with its label.
pub(super) struct Arrow {
    /// Start, at the border of a phase.
    pub(super) from: (i32, i32),
    /// End, at the border of another phase.
    pub(super) to: (i32, i32),
    /// Position of the label.
    pub(super) label: (i32, i32),
    /// The end of the label that is at that position, as SVG names it.
    pub(super) anchor: &'static str,
}

/// The arrow from one phase to another.
pub(super) fn arrow(from: Phase, to: Phase) -> Arrow {
    let (a, b) = (place(from), place(to));
    let (start, end) = (border(a, b), border(b, a));
    let middle = (i32::midpoint(start.0, end.0), i32::midpoint(start.1, end.1));
    let (label, anchor) = match (a.0 == b.0, a.1 == b.1) {
        // Beside an arrow that goes up or down, above one that goes across, outside of one that does both.
        (true, _) => ((middle.0 + 12, middle.1 - 4), "start"),
        (_, true) => ((middle.0, middle.1 - 26), "middle"),
        _ if middle.1 < SIZE.1 / 2 => ((middle.0 - 14, middle.1 - 22), "end"),
        _ => ((middle.0 - 14, middle.1 + 16), "end"),
    };
    Arrow { from: start, to: end, label, anchor }
}

/// Point at which the line from the middle of the box at `from` to `to` leaves the box.
fn border(from: (i32, i32), to: (i32, i32)) -> (i32, i32) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (half_w, half_h) = (BOX.0 / 2, BOX.1 / 2);
    // The side that the line meets first: compare its slope with the diagonal's.
    if dx.abs() * half_h > dy.abs() * half_w {
        (from.0 + half_w * dx.signum(), from.1 + dy * half_w / dx.abs().max(1))
    } else {
        (from.0 + dx * half_h / dy.abs().max(1), from.1 + half_h * dy.signum())
    }
}
