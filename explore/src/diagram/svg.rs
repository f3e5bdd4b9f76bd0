//! The diagram as a picture that can be read on a light and on a dark page.

use std::fmt::Write;

use bindery::binding::Phase;

use super::layout::{BOX, SIZE, arrow, place};
use super::{Counts, edges, times};

const STYLE: &str = "\
text { font: 14px ui-sans-serif, system-ui, sans-serif; fill: #1f2328; }
.phase rect { fill: #eef2f7; stroke: #57606a; }
.phase text { font-weight: 600; text-anchor: middle; }
.edge line { stroke: #57606a; stroke-width: 1.5; marker-end: url(#head); }
.edge .times { fill: #57606a; font-size: 12px; }
.edge .never { fill: #b42318; font-weight: 600; }
#head path { fill: #57606a; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.phase rect { fill: #212a36; stroke: #9aa4af; }
.edge line { stroke: #9aa4af; }
.edge .times { fill: #9aa4af; }
.edge .never { fill: #ff8f85; }
#head path { fill: #9aa4af; }
}
";

/// The diagram as SVG.
pub fn svg(counts: Counts<'_>) -> String {
    let (width, height) = SIZE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-labelledby=\"title\">\n\
         <title id=\"title\">The phases of a binding and the ways between them</title>\n\
         <style>\n{STYLE}</style>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\"/></marker></defs>\n"
    );
    for (transition, count) in edges(counts) {
        let arrow = arrow(transition.from, transition.to);
        let ((x1, y1), (x2, y2), (x, y)) = (arrow.from, arrow.to, arrow.label);
        let anchor = arrow.anchor;
        let label = escape(transition.label);
        let lines = [
            format!("<g class=\"edge\" id=\"{}-{}\">", transition.from, transition.to),
            format!("<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"),
            format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{label}</text>"),
        ];
        out.extend(lines);
        if let Some(count) = count {
            let class = if count == 0 { "never" } else { "times" };
            let (y, times) = (y + 17, times(count));
            write!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{times}</text>")
                .unwrap_or_default();
        }
        out.push_str("</g>\n");
    }
    for phase in Phase::ALL {
        let ((x, y), (w, h)) = (place(phase), BOX);
        let (left, top, base) = (x - w / 2, y - h / 2, y + 5);
        writeln!(
            out,
            "<g class=\"phase\" id=\"{phase}\"><rect x=\"{left}\" y=\"{top}\" width=\"{w}\" height=\"{h}\" rx=\"8\"/>\
             <text x=\"{x}\" y=\"{base}\">{phase}</text></g>"
        )
        .unwrap_or_default();
    }
    out + "</svg>\n"
}

/// `text` as XML takes it.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
